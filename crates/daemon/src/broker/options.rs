// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration of the broker, as the command line gives it.

use std::path::PathBuf;

use daedalus_settings::config::Faces;
use daedalus_uapi::codec::CodecSet;

use crate::worker::options::WorkerConfig;

/// The configuration of the broker. The help text of the command line has the details.
#[derive(Clone, Debug)]
pub(crate) struct BrokerOptions {
    /// The module's control device.
    pub(crate) device: PathBuf,
    /// The codecs that are offered whatever the configuration file says; empty: the file decides.
    pub(crate) codecs: CodecSet,
    /// The configuration file; `None`: the default one, which may be absent.
    pub(crate) config: Option<PathBuf>,
    /// The faces that are offered whatever the configuration file says; `None`: the file decides.
    pub(crate) faces: Option<Faces>,
    /// The list of other decoders that `daedalusd hardware` wrote; `None`: the broker asks the devices.
    pub(crate) hardware: Option<PathBuf>,
    /// The directory in which each session is recorded.
    pub(crate) record: Option<PathBuf>,
    /// Leave the workers running when a signal stops the broker.
    pub(crate) keep_workers: bool,
    /// USER[:GROUP] of the workers; `None`: the default one, if root starts the broker.
    pub(crate) worker_user: Option<String>,
    /// The nice value of broker and workers, if it is lower than the broker's own.
    pub(crate) nice: i32,
    /// The configuration of the workers, which the broker passes on.
    pub(crate) worker: WorkerConfig,
}
