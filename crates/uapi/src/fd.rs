// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Safe wrappers of the control fd, of session fds and of dmabuf access brackets.
//!
//! All errors are the module's own [`Errno`]; `include/uapi/linux/daedalus.h` says what each means.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::ioctl::{NoArg, Opcode, Setter, Updater, ioctl, opcode};
use zerocopy::IntoBytes;

use crate::protocol::stateful::{CodedDone, FORMAT_F_CONTINUE, Format, Headers, Picture};
use crate::protocol::{
    Attach, BUFFER_F_IMPORTED, BUFFER_F_INITIALISED, BUFFER_F_WRITE, BufferFd, Event, FACE_STATEFUL,
    FACE_STATELESS, Hello, JobDone, MSG_MAX_V1, Next, Register, SessionFdRequest, VERSION,
};

/// `DAEDALUS_IOC_MAGIC`.
const MAGIC: u8 = 0xDA;
/// `DAEDALUS_IOC_HELLO`.
pub const IOC_HELLO: Opcode = opcode::read_write::<Hello>(MAGIC, 0x00);
/// `DAEDALUS_IOC_REGISTER_V1`.
pub const IOC_REGISTER_V1: Opcode = opcode::write::<Register>(MAGIC, 0x01);
/// `DAEDALUS_IOC_REGISTER`.
pub const IOC_REGISTER: Opcode = opcode::read_write::<Register>(MAGIC, 0x01);
/// `DAEDALUS_IOC_SESSION_FD`.
pub const IOC_SESSION_FD: Opcode = opcode::read_write::<SessionFdRequest>(MAGIC, 0x02);
/// `DAEDALUS_IOC_BUFFER_FD`.
pub const IOC_BUFFER_FD: Opcode = opcode::read_write::<BufferFd>(MAGIC, 0x20);
/// `DAEDALUS_IOC_JOB_DONE`.
pub const IOC_JOB_DONE: Opcode = opcode::write::<JobDone>(MAGIC, 0x21);
/// `DAEDALUS_IOC_ATTACH`.
pub const IOC_ATTACH: Opcode = opcode::read_write::<Attach>(MAGIC, 0x22);
/// `DAEDALUS_IOC_NEXT`.
pub const IOC_NEXT: Opcode = opcode::read_write::<Next>(MAGIC, 0x23);
/// `DAEDALUS_IOC_FORMAT`.
pub const IOC_FORMAT: Opcode = opcode::read_write::<Format>(MAGIC, 0x30);
/// `DAEDALUS_IOC_PICTURE`.
pub const IOC_PICTURE: Opcode = opcode::write::<Picture>(MAGIC, 0x31);
/// `DAEDALUS_IOC_CODED_DONE`.
pub const IOC_CODED_DONE: Opcode = opcode::write::<CodedDone>(MAGIC, 0x32);
/// `DAEDALUS_IOC_END`.
pub const IOC_END: Opcode = opcode::none(MAGIC, 0x33);
/// `DAEDALUS_IOC_HEADERS`.
pub const IOC_HEADERS: Opcode = opcode::write::<Headers>(MAGIC, 0x34);
/// `DMA_BUF_IOCTL_SYNC` of `linux/dma-buf.h`; its argument is one 64-bit word of flags.
pub const DMA_BUF_IOCTL_SYNC: Opcode = opcode::write::<u64>(b'b', 0);

/// Calls an ioctl that reads and writes its argument.
///
/// # Safety
/// `T` must be the argument type of `OPCODE`, and whatever the call returns in it must be valid.
pub(crate) unsafe fn exchange<const OPCODE: Opcode, T>(fd: BorrowedFd<'_>, argument: &mut T) -> Result<()> {
    // SAFETY: the caller vouches for the type.
    let call = unsafe { Updater::<OPCODE, T>::new(argument) };
    // SAFETY: the kernel accesses `size_of::<T>()` bytes, which the number encodes.
    unsafe { ioctl(fd, call) }
}

/// Calls an ioctl that only reads its argument.
///
/// # Safety
/// `T` must be the argument type of `OPCODE`.
unsafe fn send<const OPCODE: Opcode, T>(fd: BorrowedFd<'_>, argument: T) -> Result<()> {
    // SAFETY: the caller vouches for the type.
    let call = unsafe { Setter::<OPCODE, T>::new(argument) };
    // SAFETY: the kernel reads `size_of::<T>()` bytes, which the number encodes.
    unsafe { ioctl(fd, call) }
}

/// Takes a descriptor that the kernel has just installed for this process.
///
/// # Errors
/// [`Errno::BADF`] if the number is negative, which the protocol does not allow.
///
/// # Safety
/// Nobody else may own `fd`.
unsafe fn installed(fd: i32) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not negative, and the caller vouches for the ownership.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One open of the control device: what makes a process the broker.
#[derive(Debug)]
pub struct ControlFd(OwnedFd);

impl ControlFd {
    /// Opens the control device, usually [`crate::protocol::CONTROL_PATH`], non-blocking and
    /// close-on-exec.
    ///
    /// # Errors
    /// `ENOENT` without the module, `EACCES` without permission, and whatever else `open()` says.
    pub fn open(path: &Path) -> Result<Self> {
        rustix::fs::open(
            path,
            OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
        )
        .map(Self)
    }

    /// `DAEDALUS_IOC_HELLO`: offers `hello` and returns the module's answer.
    ///
    /// # Errors
    /// `EPROTO` if there is no common version, `EBUSY` if called twice, `ENOTTY` if the file is no
    /// control device.
    pub fn hello(&self, mut hello: Hello) -> Result<Hello> {
        // SAFETY: the type of the number; plain integers come back.
        unsafe { exchange::<IOC_HELLO, Hello>(self.as_fd(), &mut hello) }?;
        Ok(hello)
    }

    /// `DAEDALUS_IOC_REGISTER`: becomes the daemon that serves `codecs` (`CODEC_*` bits) in a version of the
    /// protocol, which [`ControlFd::hello`] returned. Returns the codecs that the module took: in version 1
    /// all of the stateless face's, and none of the stateful one's.
    ///
    /// `name` is shown in the device's card name: 1 to 31 printable ASCII characters.
    ///
    /// # Errors
    /// `EINVAL` for a bad name, if the module knows none of the codecs, or in version 1 if it does not know
    /// one of them. `EBUSY` while another daemon is registered, `EPROTO` before [`ControlFd::hello`].
    pub fn register(&self, name: &str, codecs: FaceCodecs, version: u32) -> Result<FaceCodecs> {
        let mut register = Register {
            codecs: codecs.stateless,
            ..Register::default()
        };
        let last = register.name.len() - 1;
        let printable = name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if name.is_empty() || name.len() > last || !printable {
            return Err(Errno::INVAL);
        }
        register.name[..name.len()].copy_from_slice(name.as_bytes());
        if version < 2 {
            // SAFETY: `Register` is the argument type of this number.
            unsafe { send::<IOC_REGISTER_V1, Register>(self.as_fd(), register) }?;
            return Ok(FaceCodecs {
                stateful: 0,
                ..codecs
            });
        }
        if codecs.stateless != 0 {
            register.faces |= FACE_STATELESS;
        }
        if codecs.stateful != 0 {
            register.faces |= FACE_STATEFUL;
            register.stateful_codecs = codecs.stateful;
        }
        // SAFETY: `Register` is the argument type of this number, and any bits are a valid one.
        unsafe { exchange::<IOC_REGISTER, Register>(self.as_fd(), &mut register) }?;
        Ok(FaceCodecs {
            stateless: register.codecs,
            stateful: register.stateful_codecs,
        })
    }

    /// Reads the events that there are, as many as fit into `events`. None is no error.
    ///
    /// # Errors
    /// `ENOTCONN` before [`ControlFd::register`]; `EINVAL` if `events` is empty.
    pub fn read_events<'e>(&self, events: &'e mut [Event]) -> Result<&'e [Event]> {
        let bytes = match retry_on_intr(|| rustix::io::read(&self.0, events.as_mut_bytes())) {
            Err(Errno::AGAIN) => 0,
            other => other?,
        };
        Ok(&events[..bytes / size_of::<Event>()])
    }

    /// `DAEDALUS_IOC_SESSION_FD`: a new, blocking, close-on-exec session fd. Whoever holds it is
    /// the session's worker.
    ///
    /// # Errors
    /// `ENOENT` if the session is over or has a worker already.
    pub fn session_fd(&self, session: u64) -> Result<OwnedFd> {
        let mut request = SessionFdRequest {
            session,
            ..SessionFdRequest::default()
        };
        // SAFETY: the type of the number; plain integers come back.
        unsafe { exchange::<IOC_SESSION_FD, SessionFdRequest>(self.as_fd(), &mut request) }?;
        // SAFETY: the module has just installed it for this caller.
        unsafe { installed(request.fd) }
    }
}

impl AsFd for ControlFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The codecs of each face, as `CODEC_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaceCodecs {
    /// Of the stateless face.
    pub stateless: u32,
    /// Of the stateful face.
    pub stateful: u32,
}

/// Memory for one message, aligned as [`crate::protocol::Message::parse`] wants.
#[derive(Debug)]
pub struct MessageBuffer(Box<[u64]>);

impl MessageBuffer {
    /// Makes a zeroed buffer for messages of version 1: [`MSG_MAX_V1`] bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_size(MSG_MAX_V1)
    }

    /// Makes a zeroed buffer for messages of at most `bytes` bytes.
    #[must_use]
    pub fn with_size(bytes: usize) -> Self {
        Self(vec![0; bytes.div_ceil(8)].into_boxed_slice())
    }

    /// Returns all of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

impl Default for MessageBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory of one plane, as `DAEDALUS_IOC_BUFFER_FD` hands it out.
#[derive(Debug)]
pub struct Buffer {
    /// The dmabuf.
    pub fd: OwnedFd,
    /// Its size in bytes.
    pub size: u64,
    /// It may be mapped writable (CAPTURE).
    pub writable: bool,
    /// The client brought it: bracket accesses with [`DmaBufAccess`].
    pub imported: bool,
    /// Pictures in it are grey where nobody has written.
    pub initialised: bool,
}

/// The answer to a worker that attaches itself to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The version of the session fd.
    pub version: u32,
    /// Bytes of the longest message.
    pub msg_max: usize,
    /// `FEATURE_*` bits of both sides.
    pub features: u64,
    /// `FACE_*` of the session.
    pub face: u32,
}

/// A session fd: what makes a process a session's worker.
///
/// Generic over who owns the descriptor, since a worker is given it as its standard input.
#[derive(Debug)]
pub struct SessionFd<F: AsFd = OwnedFd>(F);

impl<F: AsFd> SessionFd<F> {
    /// Takes `fd` for a session fd. [`SessionFd::check`] tells whether it is one.
    pub fn new(fd: F) -> Self {
        Self(fd)
    }

    /// Checks that the descriptor really is a session fd.
    ///
    /// # Errors
    /// `ENOTTY` or another error of a file that knows nothing of the protocol.
    pub fn check(&self) -> Result<()> {
        // 0 is never an id, so a session fd answers ENOENT and installs nothing.
        match self.buffer_fd(0) {
            Ok(_) => Err(Errno::PROTO),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads one message, waiting for it unless the fd is non-blocking. `None`: the session is over.
    ///
    /// # Errors
    /// `EAGAIN` on a non-blocking fd without a message.
    pub fn read_message<'b>(&self, buffer: &'b mut MessageBuffer) -> Result<Option<&'b [u8]>> {
        let bytes = retry_on_intr(|| rustix::io::read(self.0.as_fd(), buffer.bytes_mut()))?;
        Ok((bytes > 0).then(|| &buffer.bytes_mut()[..bytes]))
    }

    /// Returns whether [`SessionFd::read_message`] would return at once.
    ///
    /// # Errors
    /// The error of `poll()`.
    pub fn has_message(&self) -> Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
        Ok(ready > 0)
    }

    /// `DAEDALUS_IOC_BUFFER_FD`: the memory with this id, to be asked for once.
    ///
    /// # Errors
    /// `ENOENT` if there is no such buffer (any more).
    pub fn buffer_fd(&self, id: u64) -> Result<Buffer> {
        let mut request = BufferFd {
            buffer: id,
            ..BufferFd::default()
        };
        // SAFETY: the type of the number; plain integers come back.
        unsafe { exchange::<IOC_BUFFER_FD, BufferFd>(self.as_fd(), &mut request) }?;
        // SAFETY: the module has just installed it for this caller.
        let fd = unsafe { installed(request.fd) }?;
        Ok(Buffer {
            fd,
            size: request.size,
            writable: request.flags & BUFFER_F_WRITE != 0,
            imported: request.flags & BUFFER_F_IMPORTED != 0,
            initialised: request.flags & BUFFER_F_INITIALISED != 0,
        })
    }

    /// `DAEDALUS_IOC_ATTACH`: makes the calling process the session's worker, which takes messages of at most
    /// `msg_max` bytes and knows `features`. A module of version 1 has no such call: there whoever reads
    /// first is the worker.
    ///
    /// # Errors
    /// `EBUSY` if the session fd has a worker.
    pub fn attach(&self, msg_max: usize, features: u64) -> Result<Attachment> {
        let mut attach = Attach {
            version: VERSION,
            msg_max: u32::try_from(msg_max).unwrap_or(u32::MAX),
            features,
            ..Attach::default()
        };
        // SAFETY: `Attach` is the argument type of this number, and any bits are a valid one.
        match unsafe { exchange::<IOC_ATTACH, Attach>(self.as_fd(), &mut attach) } {
            Ok(()) => Ok(Attachment {
                version: attach.version,
                msg_max: usize::try_from(attach.msg_max).unwrap_or(msg_max).min(msg_max),
                features: attach.features & features,
                face: attach.face,
            }),
            Err(Errno::NOTTY) => Ok(Attachment {
                version: 1,
                msg_max: MSG_MAX_V1,
                features: 0,
                face: FACE_STATELESS,
            }),
            Err(error) => Err(error),
        }
    }

    /// `DAEDALUS_IOC_JOB_DONE`: answers `job` with a `STATUS_*`. Its buffers are the client's from
    /// here on.
    ///
    /// # Errors
    /// `ENOENT` if the module has given the job up meanwhile.
    pub fn job_done(&self, job: u64, status: u32) -> Result<()> {
        let done = JobDone {
            job,
            status,
            ..JobDone::default()
        };
        // SAFETY: the type of the number.
        unsafe { send::<IOC_JOB_DONE, JobDone>(self.as_fd(), done) }
    }

    /// `DAEDALUS_IOC_FORMAT`: tells the stream's format. Returns whether the worker goes on at once.
    ///
    /// # Errors
    /// `EINVAL` for a format that the module does not offer, `ECANCELED` if a flush waits.
    pub fn format(&self, mut format: Format) -> Result<bool> {
        // SAFETY: the type of the number; plain integers come back.
        unsafe { exchange::<IOC_FORMAT, Format>(self.as_fd(), &mut format) }?;
        Ok(format.flags & FORMAT_F_CONTINUE != 0)
    }

    /// `DAEDALUS_IOC_PICTURE`: gives a raw buffer back with a picture.
    ///
    /// # Errors
    /// `ENOENT` if the raw buffer is not lent any more, `ECANCELED` if a flush waits.
    pub fn picture(&self, picture: Picture) -> Result<()> {
        // SAFETY: the type of the number.
        unsafe { send::<IOC_PICTURE, Picture>(self.as_fd(), picture) }
    }

    /// `DAEDALUS_IOC_CODED_DONE`: gives a unit back with a `STATUS_*`.
    ///
    /// # Errors
    /// `ENOENT` if the module has taken it back meanwhile.
    pub fn coded_done(&self, unit: u64, status: u32) -> Result<()> {
        let done = CodedDone {
            unit,
            status,
            ..CodedDone::default()
        };
        // SAFETY: the type of the number.
        unsafe { send::<IOC_CODED_DONE, CodedDone>(self.as_fd(), done) }
    }

    /// `DAEDALUS_IOC_END`: ends a drain without a picture.
    ///
    /// # Errors
    /// `ECANCELED` or `EINVAL` if the drain is over for another reason.
    pub fn end(&self) -> Result<()> {
        // SAFETY: the number has no argument.
        let call = unsafe { NoArg::<IOC_END>::new() };
        // SAFETY: the kernel accesses no memory of this process.
        unsafe { ioctl(self.as_fd(), call) }
    }

    /// `DAEDALUS_IOC_HEADERS`: leaves parameter sets for the worker that replaces this one.
    ///
    /// # Errors
    /// `EINVAL` for none or too many.
    pub fn headers(&self, bytes: &[u8]) -> Result<()> {
        let headers = Headers {
            data: bytes.as_ptr().expose_provenance() as u64,
            size: u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?,
            ..Headers::default()
        };
        // SAFETY: the type of the number. The kernel reads the bytes during the call.
        unsafe { send::<IOC_HEADERS, Headers>(self.as_fd(), headers) }
    }
}

impl<F: AsFd> AsFd for SessionFd<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An access of the processor to a dmabuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaBufAccess {
    /// `DMA_BUF_SYNC_READ`.
    Read,
    /// `DMA_BUF_SYNC_RW`.
    ReadWrite,
}

impl DmaBufAccess {
    fn flags(self) -> u64 {
        match self {
            Self::Read => 1,
            Self::ReadWrite => 3,
        }
    }

    /// `DMA_BUF_SYNC_START`: waits for the exporter's devices and makes their writes visible.
    ///
    /// # Errors
    /// The error of the exporter.
    pub fn begin(self, dmabuf: BorrowedFd<'_>) -> Result<()> {
        Self::sync(dmabuf, self.flags())
    }

    /// `DMA_BUF_SYNC_END`: makes the processor's writes visible to the exporter's devices.
    ///
    /// # Errors
    /// The error of the exporter.
    pub fn end(self, dmabuf: BorrowedFd<'_>) -> Result<()> {
        Self::sync(dmabuf, self.flags() | 4)
    }

    fn sync(dmabuf: BorrowedFd<'_>, flags: u64) -> Result<()> {
        loop {
            // SAFETY: struct dma_buf_sync is one 64-bit word.
            match unsafe { send::<DMA_BUF_IOCTL_SYNC, u64>(dmabuf, flags) } {
                // linux/dma-buf.h: both mean "call again".
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{MSG_BUFFER_GONE, Message, Msg, MsgBufferGone};

    const ONE: FaceCodecs = FaceCodecs {
        stateless: 1,
        stateful: 0,
    };

    fn null() -> OwnedFd {
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_missing_device_is_enoent() {
        assert_eq!(
            ControlFd::open(Path::new("/dev/daedalus-none")).unwrap_err(),
            Errno::NOENT
        );
    }

    #[test]
    fn other_files_are_refused() {
        let control = ControlFd(null());
        assert_eq!(control.hello(Hello::default()).unwrap_err(), Errno::NOTTY);
        for version in 1..=VERSION {
            assert_eq!(control.register("x", ONE, version).unwrap_err(), Errno::NOTTY);
        }
        assert_eq!(control.session_fd(1).unwrap_err(), Errno::NOTTY);
        let session = SessionFd::new(null());
        assert_eq!(session.check().unwrap_err(), Errno::NOTTY);
        assert_eq!(session.job_done(1, 0).unwrap_err(), Errno::NOTTY);
        // As a module of version 1 does, which has no such call.
        let old = Attachment {
            version: 1,
            msg_max: MSG_MAX_V1,
            features: 0,
            face: FACE_STATELESS,
        };
        assert_eq!(session.attach(1 << 16, u64::MAX), Ok(old));
        assert_eq!(
            DmaBufAccess::Read.begin(session.as_fd()).unwrap_err(),
            Errno::NOTTY
        );
    }

    #[test]
    fn bad_names_do_not_reach_the_module() {
        let control = ControlFd(null());
        let long = "x".repeat(32);
        for name in ["", "ümlaut", "two\nlines", long.as_str()] {
            assert_eq!(
                control.register(name, ONE, VERSION).unwrap_err(),
                Errno::INVAL,
                "{name:?}"
            );
        }
        assert_eq!(
            control.register(&long[..31], ONE, VERSION).unwrap_err(),
            Errno::NOTTY
        );
    }

    #[test]
    fn messages_come_from_the_file_and_end() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let session = SessionFd::new(read);
        assert!(!session.has_message().unwrap());
        let gone = MsgBufferGone {
            msg: Msg {
                kind: MSG_BUFFER_GONE,
                size: size_of::<MsgBufferGone>() as u32,
            },
            buffer: 7,
        };
        rustix::io::write(&write, gone.as_bytes()).unwrap();
        drop(write);
        assert!(session.has_message().unwrap());
        let mut buffer = MessageBuffer::new();
        let bytes = session.read_message(&mut buffer).unwrap().unwrap();
        assert!(matches!(Message::parse(bytes), Ok(Message::BufferGone(7))));
        assert!(session.read_message(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn no_event_is_no_error() {
        let (read, _write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let control = ControlFd(read);
        assert!(
            control
                .read_events(&mut [Event::default(); 4])
                .unwrap()
                .is_empty()
        );
    }
}
