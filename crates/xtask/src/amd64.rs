// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev amd64`: a stock kernel of Debian's for amd64, in QEMU, from the bed's own root, with what is in the
//! tree. What is done in the guest is testbed/amd64/run. Results: target/amd64.

mod guest;
mod packages;

use std::time::{Duration, Instant};

use anyhow::Result;
use daedalus_uapi::Codec;
use serde_json::json;

use crate::bed::Bed;
use crate::guest::GuestJob;
use crate::guest::paths::in_guest;
use crate::make::{module, root};
use crate::outcome::Outcome;
use crate::site::ui;
use crate::{play, results, stock};

/// Until a guest that has not ended by itself is killed: emulation is slow, and other work makes it slower.
const LIMIT: Duration = Duration::from_secs(1200);
/// And more for each time that everybody is frozen.
const FREEZE_LIMIT: Duration = Duration::from_secs(20);

/// Arguments of `./dev amd64`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The kernel to boot
    #[arg(long, value_enum, default_value_t = Which::Stable)]
    kernel: Which,
    /// QEMU's name of the processor; `max` emulates more of the kernel's hardening, and is half as fast
    #[arg(long, default_value = CPU)]
    cpu: String,
    /// Freeze all processes so often while clients play, and the daemon and a client alone, instead of the
    /// rest
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "50")]
    freeze: Option<u32>,
    /// Install the packages into a Debian 13 with systemd, use them as a user would, and purge them, instead
    /// of the rest
    #[arg(long, conflicts_with_all = ["freeze", "kernel"])]
    packages: bool,
    #[arg(skip)]
    quick: bool,
}

impl Args {
    /// A name for files.
    fn name(&self) -> String {
        let kernel = self.kernel.name();
        if self.freeze.is_some() {
            format!("{kernel}-freeze")
        } else {
            kernel.to_owned()
        }
    }

    /// What `./dev test` runs.
    pub(crate) fn quick() -> Self {
        Self {
            kernel: Which::Stable,
            cpu: CPU.to_owned(),
            freeze: None,
            packages: false,
            quick: true,
        }
    }
}

/// Returns the names of codecs, with blanks between them.
fn names(codecs: &[Codec]) -> String {
    let names: Vec<_> = codecs.iter().map(|codec| codec.name()).collect();
    names.join(" ")
}

/// A kernel of Debian 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Its own, 6.12
    #[value(name = "13")]
    Stable,
    /// The newest of its backports
    Backports,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Stable => "13",
            Self::Backports => "backports",
        }
    }

    fn suite(self, bed: &Bed) -> Result<String> {
        let own = bed.conf("root.suite")?;
        Ok(match self {
            Self::Stable => own.to_owned(),
            Self::Backports => format!("{own}-backports"),
        })
    }
}

/// What programs for amd64 choose their fastest code by, and no more.
const CPU: &str = "qemu64,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt";

/// Makes what the guest needs, and runs it.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    if args.packages {
        return packages::run(bed, &args.cpu);
    }
    let start = Instant::now();
    bed.host.ready()?;
    let outcome = Outcome::new();
    let name = args.name();
    let label = format!("amd64 {name}");
    let mut machine = None;
    outcome.check(&format!("{label}: emulator and kernel are there"), || {
        let stock = stock::make(bed, &args.kernel.suite(bed)?, "amd64")?;
        let emulator = root::make(bed, root::EMULATOR_AMD64)?;
        let release = stock.release.clone();
        machine = Some((stock, emulator));
        Ok(release)
    });
    let mut parts = None;
    if let Some((stock, emulator)) = machine {
        outcome.check(&format!("{label}: module, programs and clips are there"), || {
            let module = stock.module(bed, &module::OWN)?;
            let (programs, (clips, _)) = (bed.binaries()?, play::clips(bed)?);
            parts = Some((stock, emulator, module, programs, clips));
            Ok(String::new())
        });
    }
    if let Some((stock, emulator, module, programs, clips)) = &parts {
        let place = guest::Place {
            emulator,
            stock,
            module,
            programs,
            cpu: &args.cpu,
        };
        // A codec more does not make `./dev test` longer: the module's part is the same for all of them.
        let stateful = &Codec::ALL[..if args.quick { 1 } else { Codec::ALL.len() }];
        let ways = if args.quick {
            "plain units"
        } else {
            "plain units bytes"
        };
        let mut job = GuestJob::new(&name, "exec bash /mnt/repo/testbed/amd64/run")
            .env("CLIPS", &in_guest(bed, clips)?)
            .env("CODECS", &names(Codec::ALL))
            .env("STATEFUL_CODECS", &names(stateful))
            .env("STATEFUL_WAYS", ways)
            .timeout(LIMIT + FREEZE_LIMIT * args.freeze.unwrap_or(0));
        if let Some(times) = args.freeze {
            job = job.env("FREEZE", &times.to_string());
        }
        guest::run(bed, &place, &job, &label, &outcome)?;
    }
    let fields = json!({
        "kernel": parts.as_ref().map(|(stock, ..)| &stock.release),
        "cpu": args.cpu,
    });
    results::write(
        &bed.target.join(format!("amd64/{name}.json")),
        start,
        fields,
        &outcome,
    )?;
    ui::note(&format!(
        "{name}.json, and the console and the logs of the guest, are in target/amd64"
    ));
    Ok(outcome)
}
