// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus-tests`: the tests that run inside the guest against the device, and the generator of the clips
//! that they play.

use clap::{Parser, Subcommand};

mod clips;
mod codec;
mod gst;
mod guest;
mod hostile;
mod imitate;
mod ioctls;
mod life;
mod native;
mod play;
mod random;
mod rows;
mod stateful;

/// End-to-end tests of the device.
#[derive(Debug, Parser)]
#[command(name = "daedalus-tests", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the clips (in the Debian root, which has the encoders).
    Clips(clips::Args),
    /// Makes the streams that the published suites lack (in the Debian root, which has the encoders).
    Generated(clips::generated::Args),
    /// Compares FFmpeg's pictures with another decoder's, where the standard has no exact ones (in the Debian
    /// root, which has both).
    Near(clips::near::Args),
    /// Plays streams through GStreamer, or as another client would, and compares every picture.
    Play(play::Args),
    /// Writes a stream with a size before each unit, as v4l2-compliance's --stream-from-hdr takes it.
    Framed(stateful::FramedArgs),
    /// Plays streams through the engine, with neither kernel nor device.
    Native(native::Args),
    /// Kills, reloads and several clients at once.
    Life(life::Args),
    /// Normalises a client's calls in a log of strace, and compares them with a kept trace.
    Ioctls(ioctls::Args),
    /// Clients and daemons that break every rule, and failing allocations.
    Hostile(hostile::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Clips(args) => clips::run(&args),
        Command::Generated(args) => clips::generated::run(&args),
        Command::Near(args) => clips::near::run(&args),
        Command::Play(args) => play::run(&args),
        Command::Framed(args) => stateful::framed(&args),
        Command::Native(args) => native::run(&args),
        Command::Life(args) => life::run(&args),
        Command::Ioctls(args) => ioctls::run(&args),
        Command::Hostile(args) => hostile::run(&args),
    }
}
