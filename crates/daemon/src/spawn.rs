// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How this program starts itself again: as the fork server, and for the attempts of `daedalusd
//! sandbox-test`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::logging::FILTER_VARIABLE;
use crate::sandbox::privileges::User;

/// The environment variables that are passed on: where libraries are, and what to log. NOTIFY_SOCKET is left
/// out, for a process that has it can speak for the service.
const ENVIRONMENT: [&str; 3] = [FILTER_VARIABLE, "LD_LIBRARY_PATH", "RUST_BACKTRACE"];

/// One arena for all threads. With more the allocator reads files that the sandbox refuses: how many
/// processors there are, before it makes another one, and whether memory is overcommitted, before one
/// shrinks. The decoders' threads hardly allocate.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// The path of this program, also after its file has been replaced.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

/// Returns a command that starts `program`, which is this one, with few variables in its environment and as
/// `user`, if there is one.
pub(crate) fn command(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.arg0("daedalusd").current_dir("/").env_clear().envs(
        ENVIRONMENT
            .iter()
            .filter_map(|&name| Some((name, std::env::var_os(name)?))),
    );
    command.env(ARENAS.0, ARENAS.1);
    if let Some(User { uid, gid }) = user {
        // Root starts it, so the supplementary groups are dropped as well.
        command.gid(gid).uid(uid);
    }
    command
}
