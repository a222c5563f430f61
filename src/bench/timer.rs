//! An alarm with nanoseconds, for the poll.
//!
//! epoll counts in milliseconds: at 20,000 operations a second, twenty intended starts would wait for
//! one wake-up, and the generator would measure itself. A timerfd is exact to the kernel's timers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub struct Timer {
    fd: OwnedFd,
    /// What it is set to, so that setting it to the same costs nothing; 0: off.
    at_ns: u64,
}

impl Timer {
    #[allow(unsafe_code)]
    pub fn new() -> io::Result<Timer> {
        // SAFETY: no pointer is passed; a new descriptor or -1 comes back.
        let fd = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, so nobody else owns it.
        Ok(Timer { fd: unsafe { OwnedFd::from_raw_fd(fd) }, at_ns: 0 })
    }

    /// Makes the descriptor readable at `at_ns` (`CLOCK_MONOTONIC`); a moment past is at once.
    ///
    /// The poll is edge-triggered and every expiry is an edge, so nobody has to read it.
    #[allow(unsafe_code)]
    pub fn set(&mut self, at_ns: u64) -> io::Result<()> {
        if self.at_ns == at_ns {
            return Ok(());
        }
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: `spec` is valid for the call, the old value is not asked for, the fd is ours.
        let rc = unsafe {
            libc::timerfd_settime(
                self.fd.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const spec,
                std::ptr::null_mut(),
            )
        };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        self.at_ns = at_ns;
        Ok(())
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
