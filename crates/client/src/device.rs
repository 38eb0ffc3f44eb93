// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Device nodes, and their ioctls that belong to no queue.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::coded::{Control, Visible};
use crate::v4l2::{self, text};

/// Why a device could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A system call failed.
    #[error("{call}: {errno}")]
    Call {
        /// Which, with its object.
        call: String,
        /// With what.
        errno: Errno,
    },
    /// There is no such device.
    #[error("no {0}")]
    NoDevice(String),
    /// The device did not answer in time.
    #[error("{0} not ready after {1} ms")]
    Timeout(&'static str, u128),
    /// The device answered, and not as the interface says.
    #[error("{0}")]
    Unexpected(String),
}

impl ClientError {
    /// Returns the error number, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Names the call that an error belongs to.
pub(crate) fn call<T>(name: impl Into<String>, result: rustix::io::Result<T>) -> Result<T, ClientError> {
    result.map_err(|errno| ClientError::Call {
        call: name.into(),
        errno,
    })
}

/// The nodes of a stateless decoder.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// `/dev/videoN`.
    pub video: PathBuf,
    /// `/dev/mediaN`.
    pub media: PathBuf,
    /// The card's name.
    pub card: String,
}

/// Device nodes in `/dev` whose name begins with `prefix`, in order of their numbers.
fn nodes(prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, ClientError> {
    let opened = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | flags, Mode::empty());
    call(format!("open {}", path.display()), opened)
}

/// Finds the decoder whose driver is `driver`: its media node by `MEDIA_IOC_DEVICE_INFO`, then the video
/// node with the same bus information. Numbers mean nothing: other drivers may have taken any.
///
/// # Errors
/// [`ClientError::NoDevice`]; what `open` of the driver's own nodes says, if it refuses.
pub fn find(driver: &str) -> Result<Nodes, ClientError> {
    let mut refused = None;
    for media in nodes("media") {
        let Ok(fd) = open(&media, OFlags::empty()) else {
            continue;
        };
        let mut info = v4l2::MediaDeviceInfo::default();
        if v4l2::media_device_info(fd.as_fd(), &mut info).is_err() || text(&info.driver) != driver {
            continue;
        }
        for video in nodes("video") {
            let fd = match open(&video, OFlags::NONBLOCK) {
                Ok(fd) => fd,
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            let Ok(capability) = v4l2::querycap(fd.as_fd()) else {
                continue;
            };
            if text(&capability.driver) == driver && capability.bus_info == info.bus_info {
                return Ok(Nodes {
                    video,
                    media,
                    card: text(&capability.card),
                });
            }
        }
    }
    Err(refused.unwrap_or_else(|| ClientError::NoDevice(format!("decoder of the driver {driver}"))))
}

/// Upper bounds, in ms, of the classes in which [`Longest::classes`] counts; the last class has none.
pub const CLASS_BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 3000];

/// The times of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    /// Numbers of calls and waits by the time that they stayed blocked, see [`CLASS_BOUNDS_MS`].
    pub classes: [u64; CLASS_BOUNDS_MS.len() + 1],
    /// The longest of the calls that must not wait for a picture (all ioctls but a blocking `DQBUF`).
    pub call: Duration,
    /// The longest wait for something to come back (`poll`, or a blocking `DQBUF`).
    pub wait: Duration,
}

/// The answer of `poll` about a device.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// An OUTPUT buffer can be dequeued.
    pub coded: bool,
    /// A CAPTURE buffer can be dequeued.
    pub raw: bool,
    /// `POLLERR`: a queue is in error, or neither has buffers; `DQBUF` says which.
    pub error: bool,
    /// `POLLPRI`: an event can be dequeued.
    pub event: bool,
}

/// An open decoder: one session.
#[derive(Debug)]
pub struct Device {
    video: OwnedFd,
    /// A stateful decoder has none.
    media: Option<OwnedFd>,
    blocking: bool,
    longest: Mutex<Longest>,
}

impl Device {
    /// Opens both nodes. With `blocking`, `DQBUF` waits; else [`Device::wait`] does.
    ///
    /// # Errors
    /// The error of `open()`: `ENODEV` if nobody serves the device.
    pub fn open(nodes: &Nodes, blocking: bool) -> Result<Arc<Self>, ClientError> {
        Self::open_nodes(&nodes.video, Some(&nodes.media), blocking)
    }

    /// Opens the node of a stateful decoder, which has no media node.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_video(video: &Path, blocking: bool) -> Result<Arc<Self>, ClientError> {
        Self::open_nodes(video, None, blocking)
    }

    fn open_nodes(video: &Path, media: Option<&Path>, blocking: bool) -> Result<Arc<Self>, ClientError> {
        let flags = if blocking {
            OFlags::empty()
        } else {
            OFlags::NONBLOCK
        };
        let start = Instant::now();
        let video = open(video, flags)?;
        let longest = Mutex::new(Longest {
            call: start.elapsed(),
            ..Longest::default()
        });
        Ok(Arc::new(Self {
            video,
            media: media.map(|media| open(media, OFlags::empty())).transpose()?,
            blocking,
            longest,
        }))
    }

    /// Returns the video node.
    #[must_use]
    pub fn video(&self) -> BorrowedFd<'_> {
        self.video.as_fd()
    }

    /// Returns the media node.
    ///
    /// # Errors
    /// [`ClientError::NoDevice`] if it is a stateful decoder.
    pub fn media(&self) -> Result<BorrowedFd<'_>, ClientError> {
        let media = self.media.as_ref().map(AsFd::as_fd);
        media.ok_or_else(|| ClientError::NoDevice("media node of a stateful decoder".into()))
    }

    /// Returns the longest calls so far.
    #[must_use]
    pub fn longest(&self) -> Longest {
        *self
            .longest
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Calls `body` and notes how long it took, as a wait or as a call.
    pub(crate) fn timed<T>(&self, wait: bool, body: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = body();
        let took = start.elapsed();
        let mut longest = self
            .longest
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = if wait {
            &mut longest.wait
        } else {
            &mut longest.call
        };
        *entry = (*entry).max(took);
        let class = CLASS_BOUNDS_MS
            .iter()
            .position(|bound| took < Duration::from_millis(*bound))
            .unwrap_or(CLASS_BOUNDS_MS.len());
        longest.classes[class] += 1;
        result
    }

    /// Returns whether `DQBUF` waits.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        self.blocking
    }

    /// Waits until a buffer of either queue can be dequeued, or a queue is in error.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub fn wait(&self, timeout: Duration) -> Result<Ready, ClientError> {
        self.wait_for(PollFlags::IN | PollFlags::OUT, timeout)
    }

    /// As [`Device::wait`], for events as well.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub fn wait_all(&self, timeout: Duration) -> Result<Ready, ClientError> {
        self.wait_for(PollFlags::IN | PollFlags::OUT | PollFlags::PRI, timeout)
    }

    /// As [`Device::wait`], for CAPTURE alone or for OUTPUT alone.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub fn wait_queue(&self, buf_type: u32, timeout: Duration) -> Result<Ready, ClientError> {
        let flags = if buf_type == v4l2::BUF_TYPE_OUTPUT {
            PollFlags::OUT
        } else {
            PollFlags::IN
        };
        self.wait_for(flags, timeout)
    }

    fn wait_for(&self, flags: PollFlags, timeout: Duration) -> Result<Ready, ClientError> {
        let mut fds = [PollFd::new(&self.video, flags)];
        self.timed(true, || poll_for(&mut fds, timeout, "a buffer"))?;
        let ready = fds[0].revents();
        Ok(Ready {
            coded: ready.contains(PollFlags::OUT),
            raw: ready.contains(PollFlags::IN),
            error: ready.contains(PollFlags::ERR),
            event: ready.contains(PollFlags::PRI),
        })
    }

    /// Returns the session's capabilities.
    ///
    /// # Errors
    /// The driver's.
    pub fn capability(&self) -> Result<v4l2::Capability, ClientError> {
        call("QUERYCAP", v4l2::querycap(self.video()))
    }

    /// Returns the pixel formats of a queue.
    ///
    /// # Errors
    /// The driver's.
    pub fn formats(&self, buf_type: u32) -> Result<Vec<u32>, ClientError> {
        let mut formats = Vec::new();
        loop {
            let index = u32::try_from(formats.len()).unwrap_or(u32::MAX);
            let mut description = v4l2::FmtDesc {
                index,
                type_: buf_type,
                ..Default::default()
            };
            match v4l2::enum_fmt(self.video(), &mut description) {
                Ok(()) => formats.push(description.pixelformat),
                Err(Errno::INVAL) => return Ok(formats),
                Err(errno) => return call("ENUM_FMT", Err(errno)),
            }
        }
    }

    /// Returns whether a queue has the format: asks for one after the other, until it is found.
    ///
    /// # Errors
    /// The driver's.
    pub fn offers(&self, buf_type: u32, pixelformat: u32) -> Result<bool, ClientError> {
        for index in 0.. {
            let mut description = v4l2::FmtDesc {
                index,
                type_: buf_type,
                ..Default::default()
            };
            match v4l2::enum_fmt(self.video(), &mut description) {
                Ok(()) if description.pixelformat == pixelformat => return Ok(true),
                Ok(()) => {}
                Err(Errno::INVAL) => break,
                Err(errno) => return call("ENUM_FMT", Err(errno)),
            }
        }
        Ok(false)
    }

    /// Returns the format of a queue.
    ///
    /// # Errors
    /// The driver's.
    pub fn format(&self, buf_type: u32) -> Result<v4l2::PixFormatMplane, ClientError> {
        let mut format = v4l2::Format {
            type_: buf_type,
            ..Default::default()
        };
        call(
            "G_FMT",
            self.timed(false, || v4l2::g_fmt(self.video(), &mut format)),
        )?;
        Ok(format.pix_mp)
    }

    /// Sets the format of a queue; returns what the driver made of it.
    ///
    /// # Errors
    /// The driver's: `EBUSY` while the queue has buffers and the change is none that it allows then.
    pub fn set_format(
        &self,
        buf_type: u32,
        pix_mp: v4l2::PixFormatMplane,
    ) -> Result<v4l2::PixFormatMplane, ClientError> {
        let mut format = v4l2::Format {
            type_: buf_type,
            pix_mp,
            ..Default::default()
        };
        call(
            "S_FMT",
            self.timed(false, || v4l2::s_fmt(self.video(), &mut format)),
        )?;
        Ok(format.pix_mp)
    }

    /// Returns what the driver would make of a format of a queue.
    ///
    /// # Errors
    /// The driver's.
    pub fn try_format(
        &self,
        buf_type: u32,
        pix_mp: v4l2::PixFormatMplane,
    ) -> Result<v4l2::PixFormatMplane, ClientError> {
        let mut format = v4l2::Format {
            type_: buf_type,
            pix_mp,
            ..Default::default()
        };
        call("TRY_FMT", v4l2::try_fmt(self.video(), &mut format))?;
        Ok(format.pix_mp)
    }

    /// Returns the largest width and height that a coded format can have.
    ///
    /// # Errors
    /// The driver's.
    pub fn largest(&self, pixel_format: u32) -> Result<(u32, u32), ClientError> {
        let mut sizes = v4l2::FrmSizeEnum {
            pixel_format,
            ..Default::default()
        };
        call("ENUM_FRAMESIZES", v4l2::enum_framesizes(self.video(), &mut sizes))?;
        Ok((sizes.max_width, sizes.max_height))
    }

    /// Sets controls of the session, or of `request`.
    ///
    /// # Errors
    /// The driver's, with the control that is to blame.
    pub fn set_controls(&self, controls: &[Control], request: Option<&Request>) -> Result<(), ClientError> {
        let mut values: Vec<(u32, Vec<u8>)> = controls
            .iter()
            .map(|control| (control.id, control.value.clone()))
            .collect();
        let request = request.map(|request| request.fd.as_raw_fd());
        self.timed(false, || {
            v4l2::ext_controls(self.video(), true, request, &mut values)
        })
        .map_err(|(errno, index)| {
            let blamed = controls.get(index as usize).map_or(0, |control| control.id);
            ClientError::Call {
                call: format!("S_EXT_CTRLS (control {blamed:#x})"),
                errno,
            }
        })
    }

    /// Reads the value of a control of `size` bytes, of the session or of a completed request.
    ///
    /// # Errors
    /// The driver's.
    pub fn control(&self, id: u32, size: usize, request: Option<&Request>) -> Result<Control, ClientError> {
        let mut values = [(id, vec![0; size])];
        let request = request.map(|request| request.fd.as_raw_fd());
        v4l2::ext_controls(self.video(), false, request, &mut values).map_err(|(errno, _)| {
            ClientError::Call {
                call: format!("G_EXT_CTRLS {id:#x}"),
                errno,
            }
        })?;
        let [(id, value)] = values;
        Ok(Control { id, value })
    }

    /// Returns the driver's description of a control.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn query_control(&self, id: u32) -> Result<v4l2::QueryExtCtrl, ClientError> {
        let mut query = v4l2::QueryExtCtrl {
            id,
            ..Default::default()
        };
        call("QUERY_EXT_CTRL", v4l2::query_ext_ctrl(self.video(), &mut query))?;
        Ok(query)
    }

    /// `V4L2_DEC_CMD_FLUSH`: the CAPTURE buffer that is held is complete.
    ///
    /// # Errors
    /// The driver's.
    pub fn flush(&self) -> Result<(), ClientError> {
        let mut command = v4l2::DecoderCmd {
            cmd: v4l2::DEC_CMD_FLUSH,
            ..Default::default()
        };
        call(
            "DECODER_CMD FLUSH",
            self.timed(false, || v4l2::decoder_cmd(self.video(), &mut command)),
        )
    }

    /// `DECODER_CMD` with a `V4L2_DEC_CMD_*`.
    ///
    /// # Errors
    /// The driver's.
    pub fn command(&self, cmd: u32) -> Result<(), ClientError> {
        let mut command = v4l2::DecoderCmd {
            cmd,
            ..Default::default()
        };
        call(
            format!("DECODER_CMD {cmd}"),
            self.timed(false, || v4l2::decoder_cmd(self.video(), &mut command)),
        )
    }

    /// Subscribes a type of event, `V4L2_EVENT_*`.
    ///
    /// # Errors
    /// The driver's.
    pub fn subscribe(&self, event: u32) -> Result<(), ClientError> {
        call(
            format!("SUBSCRIBE_EVENT {event}"),
            v4l2::subscribe_event(self.video(), event),
        )
    }

    /// Dequeues an event. `None` if there is none.
    ///
    /// # Errors
    /// The driver's.
    pub fn event(&self) -> Result<Option<v4l2::Event>, ClientError> {
        match v4l2::dequeue_event(self.video()) {
            Err(Errno::NOENT) => Ok(None),
            other => call("DQEVENT", other).map(Some),
        }
    }

    /// Returns the visible part of CAPTURE's pictures, by `G_SELECTION`.
    ///
    /// # Errors
    /// The driver's.
    pub fn visible(&self) -> Result<Visible, ClientError> {
        let mut selection = v4l2::Selection {
            type_: v4l2::SELECTION_CAPTURE,
            target: v4l2::SEL_TGT_COMPOSE,
            ..Default::default()
        };
        call("G_SELECTION", v4l2::g_selection(self.video(), &mut selection))?;
        let edge = |value: i32| {
            u32::try_from(value).map_err(|_| ClientError::Unexpected(format!("a rectangle at {value}")))
        };
        Ok(Visible {
            left: edge(selection.left)?,
            top: edge(selection.top)?,
            width: selection.width,
            height: selection.height,
        })
    }

    /// Returns a new request.
    ///
    /// # Errors
    /// The driver's.
    pub fn request(&self) -> Result<Request, ClientError> {
        let fd = call("REQUEST_ALLOC", v4l2::request_alloc(self.media()?))?;
        if fd < 0 {
            return Err(ClientError::Unexpected(format!(
                "REQUEST_ALLOC: file descriptor {fd}"
            )));
        }
        // SAFETY: the kernel has just installed it for this process.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Request { fd })
    }
}

/// A request: controls and one OUTPUT buffer that belong together.
#[derive(Debug)]
pub struct Request {
    fd: OwnedFd,
}

impl From<OwnedFd> for Request {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Request {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Request {
    /// `MEDIA_REQUEST_IOC_QUEUE`.
    ///
    /// # Errors
    /// `ENOENT` if it has no buffer, `EBUSY` if it is queued already; the driver's.
    pub fn queue(&self) -> Result<(), ClientError> {
        call("REQUEST_QUEUE", v4l2::request_queue(self.as_fd()))
    }

    /// `MEDIA_REQUEST_IOC_REINIT`: makes it new again.
    ///
    /// # Errors
    /// `EBUSY` while it is queued.
    pub fn reinit(&self) -> Result<(), ClientError> {
        call("REQUEST_REINIT", v4l2::request_reinit(self.as_fd()))
    }

    /// Waits until it is complete.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub fn wait(&self, timeout: Duration) -> Result<(), ClientError> {
        poll_for(&mut [PollFd::new(&self.fd, PollFlags::PRI)], timeout, "a request")
    }
}

/// Polls until something happens.
fn poll_for(fds: &mut [PollFd<'_>], timeout: Duration, what: &'static str) -> Result<(), ClientError> {
    let timespec = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match call("poll", retry_on_intr(|| poll(fds, Some(&timespec))))? {
        0 => Err(ClientError::Timeout(what, timeout.as_millis())),
        _ => Ok(()),
    }
}
