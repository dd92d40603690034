//! Processes as clients: who they are, whether they live, and how they are stopped for good.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use rustix::time::{clock_gettime, ClockId};

use crate::{Fate, Identity};

/// Handles kept at most; a pool has fewer clients.
const MAX_HANDLES: usize = 1024;
/// How long a killed process may take to end: it may have to give back much memory first.
const ENDING: Duration = Duration::from_secs(10);

/// Nanoseconds of the host's monotonic clock.
#[inline]
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Start time of a process in clock ticks since the host's, or `None` if it is gone or hidden.
fn started(pid: &str) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let text = std::str::from_utf8(&stat[after_name..]).ok()?;
    text.split_ascii_whitespace().nth(19)?.parse().ok()
}

enum Found {
    Handle,
    Gone,
    Hidden,
}

/// What one client knows of other processes.
#[derive(Default)]
pub(super) struct Processes {
    handles: RefCell<HashMap<(u32, u64), OwnedFd>>,
    own: RefCell<Option<Identity>>,
}

impl Processes {
    /// The calling process. Looked up anew after a fork.
    pub(super) fn own(&self) -> Identity {
        let pid = rustix::process::getpid().as_raw_pid() as u32;
        let mut own = self.own.borrow_mut();
        match *own {
            Some(identity) if identity.pid == pid => identity,
            _ => *own.insert(Identity { pid, started: started("self").unwrap_or(0) }),
        }
    }

    pub(super) fn is_alive(&self, client: Identity) -> bool {
        match self.find(client) {
            Found::Gone => false,
            // Whoever cannot be looked at is not declared dead.
            Found::Hidden => true,
            Found::Handle => !self.ended(client, Duration::ZERO),
        }
    }

    /// Kills the process and waits for its end. Its verbs are its own instructions, so no other
    /// way is sure.
    pub(super) fn fence(&self, client: Identity) -> Fate {
        if client == self.own() || client.started == 0 {
            return Fate::OutOfReach;
        }
        match self.find(client) {
            Found::Gone => return Fate::Fenced,
            Found::Hidden => return Fate::OutOfReach,
            Found::Handle => {}
        }
        let sent = match self.handles.borrow().get(&(client.pid, client.started)) {
            Some(handle) => pidfd_send_signal(handle, Signal::KILL),
            None => Err(Errno::BADF),
        };
        match sent {
            Err(Errno::SRCH) => Fate::Fenced,
            Ok(()) if self.ended(client, ENDING) => Fate::Fenced,
            _ => Fate::OutOfReach,
        }
    }

    /// Makes sure that there is a handle of exactly this process.
    fn find(&self, client: Identity) -> Found {
        let key = (client.pid, client.started);
        let mut handles = self.handles.borrow_mut();
        if handles.contains_key(&key) {
            return Found::Handle;
        }
        let raw = i32::try_from(client.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = raw else { return Found::Gone };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Found::Gone,
            Err(_) => return Found::Hidden,
        };
        // The handle keeps its process, whatever becomes of the number; so look at the time now.
        match started(&client.pid.to_string()) {
            Some(time) if time == client.started || client.started == 0 => {}
            Some(_) => return Found::Gone,
            None if ended(&handle, Duration::ZERO) => return Found::Gone,
            None => return Found::Hidden,
        }
        if handles.len() >= MAX_HANDLES {
            handles.clear();
        }
        handles.insert(key, handle);
        Found::Handle
    }

    fn ended(&self, client: Identity, timeout: Duration) -> bool {
        let key = (client.pid, client.started);
        let mut handles = self.handles.borrow_mut();
        let ended = handles.get(&key).is_none_or(|handle| ended(handle, timeout));
        if ended {
            handles.remove(&key);
        }
        ended
    }
}

/// Whether the process has ended (all its threads; a zombie has) within `timeout`.
fn ended(handle: &OwnedFd, timeout: Duration) -> bool {
    let until = now_ns() + timeout.as_nanos() as u64;
    loop {
        let left = Duration::from_nanos(until.saturating_sub(now_ns()));
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sleeper() -> (std::process::Child, Identity) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = started(&child.id().to_string()).unwrap();
        let identity = Identity { pid: child.id(), started };
        (child, identity)
    }

    #[test]
    fn a_fenced_process_has_ended() {
        let processes = Processes::default();
        let (mut child, identity) = sleeper();
        assert!(processes.is_alive(identity));
        assert_eq!(processes.fence(identity), Fate::Fenced);
        // Nobody has reaped it yet: a zombie is dead all the same, cached handle or not.
        assert!(!processes.is_alive(identity));
        assert!(!Processes::default().is_alive(identity));
        child.wait().unwrap();
        assert!(!processes.is_alive(identity));
        assert_eq!(processes.fence(identity), Fate::Fenced);
    }

    #[test]
    fn another_process_with_that_number_is_left_alone() {
        let processes = Processes::default();
        let (mut child, identity) = sleeper();
        let before = Identity { started: identity.started - 1, ..identity };
        assert!(!processes.is_alive(before));
        assert_eq!(processes.fence(before), Fate::Fenced);
        assert!(processes.is_alive(identity));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_own_process_lives_and_is_never_killed() {
        let processes = Processes::default();
        let own = processes.own();
        assert!(own.started > 0);
        assert!(processes.is_alive(own));
        assert_eq!(processes.fence(own), Fate::OutOfReach);
        // Somebody of whom only the pid is known.
        let unknown = Identity { started: 0, ..own };
        assert!(processes.is_alive(unknown));
        assert_eq!(processes.fence(unknown), Fate::OutOfReach);
        assert!(!processes.is_alive(Identity { pid: 0, started: 0 }));
        assert!(!processes.is_alive(Identity { pid: u32::MAX, started: 0 }));
    }
}
