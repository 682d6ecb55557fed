//! A timer with a finer resolution than `epoll_wait`, whose timeout is in whole milliseconds, to
//! which mio rounds up.

pub(super) use imp::Timer;

#[cfg(target_os = "linux")]
mod imp {
    use std::{io, os::fd::AsRawFd, os::fd::OwnedFd, time::Duration};

    use mio::{Interest, Registry, Token, unix::SourceFd};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timerfd that wakes a poll.
    #[derive(Debug)]
    pub(in super::super) struct Timer(OwnedFd);

    impl Timer {
        /// A timer that wakes `registry`'s poll with `token`.
        pub(in super::super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// Wakes the poll after `delay`, replacing the previous setting. Returns the timeout for
        /// the poll itself: `None`, unless the timer could not be set.
        pub(in super::super) fn set(&self, delay: Duration) -> Option<Duration> {
            // A zero delay would disarm the timer.
            let delay = delay.max(Duration::from_nanos(1));
            let Ok(it_value) = Timespec::try_from(delay) else { return Some(delay) };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let spec = Itimerspec { it_interval, it_value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec).err().map(|_| delay)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::{io, time::Duration};

    use mio::{Registry, Token};

    /// Other systems use the poll's own timeout.
    #[derive(Debug)]
    pub(in super::super) struct Timer;

    impl Timer {
        pub(in super::super) fn new(_: &Registry, _: Token) -> io::Result<Self> {
            Ok(Self)
        }

        pub(in super::super) fn set(&self, delay: Duration) -> Option<Duration> {
            Some(delay)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::Timer;

    #[test]
    fn the_timer_wakes_the_poll_each_time_it_is_set() {
        let mut poll = Poll::new().unwrap();
        let timer = Timer::new(poll.registry(), Token(7)).unwrap();
        for _ in 0..3 {
            let left = timer.set(Duration::from_micros(200));
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, left.or(Some(Duration::from_secs(10)))).unwrap();
            assert!(left.is_some() || events.iter().any(|e| e.token() == Token(7)));
        }
    }
}
