//! Clients that are processes: this binary starts itself. None outlives its test.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};

use artesian_bus::shm::ShmNodes;
use rustix::process::{kill_process, Pid, Signal};

use super::deed::Outcome;
use super::spec::Spec;

/// The environment of a client: its role, the pool, when its moments begin, who started it, and the
/// case.
pub const ROLE: &str = "ARTESIAN_MATRIX_ROLE";

/// What a client is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The case's operation.
    Worker,
    /// Look after the dead.
    Repairer,
}

/// All that a client is told.
pub struct Order {
    pub role: Role,
    pub pool: String,
    pub epoch: u64,
    pub parent: u32,
    pub spec: Spec,
}

impl Order {
    /// What this process is told; `None` if it is nobody's client.
    pub fn own() -> Option<Order> {
        let text = std::env::var(ROLE).ok()?;
        let mut parts = text.splitn(5, ';');
        let mut part = || parts.next().unwrap_or_default();
        let role = if part() == "Worker" { Role::Worker } else { Role::Repairer };
        let (pool, epoch, parent) = (part().to_owned(), part().parse(), part().parse());
        let spec = part().parse().expect("a case");
        let (epoch, parent) = (epoch.expect("a moment"), parent.expect("a process"));
        Some(Order { role, pool, epoch, parent, spec })
    }
}

/// A client at work.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(role: Role, nodes: &ShmNodes, epoch: u64, spec: &Spec) -> Process {
        let own = std::process::id();
        let order = format!("{role:?};{};{epoch};{own};{spec}", nodes.name());
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "client_process", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, order).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Process { child: command.spawn().expect("this binary starts") }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let state =
            stat.ok().and_then(|stat| stat.rsplit_once(") ").map(|parts| parts.1.to_owned()));
        state.is_some_and(|state| state.starts_with('T'))
    }

    /// Ends a stop. Nothing happens to who has ended.
    pub fn go_on(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// What it has told, after its end.
    pub fn report(&mut self) -> Report {
        let (mut told, mut complaints) = (String::new(), String::new());
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let read = out.map(|mut out| out.read_to_string(&mut told));
        let failed = err.map(|mut err| err.read_to_string(&mut complaints));
        assert!(matches!((read, failed), (Some(Ok(_)), Some(Ok(_)))), "pipes of a client");
        Report::read(&told, complaints)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client has told: see [`say`](super::client::say).
#[derive(Default)]
pub struct Report {
    /// Per deed when it began, and when it ended with what.
    pub deeds: Vec<(u64, Option<(u64, Outcome)>)>,
    /// It came to its end; whether the charge had gone off by then.
    pub done: Option<bool>,
    pub error: Option<String>,
    /// What it wrote beside.
    pub complaints: String,
}

impl Report {
    fn read(told: &str, complaints: String) -> Report {
        let mut report = Report { complaints, ..Report::default() };
        for line in told.lines().filter_map(|line| line.strip_prefix('@')) {
            let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
            match what {
                "calls" => report.deeds.push((rest.parse().expect("a moment"), None)),
                "returns" => {
                    let (moment, outcome) = rest.split_once(' ').unwrap_or((rest, ""));
                    let end = (moment.parse().expect("a moment"), Outcome::decode(outcome));
                    report.deeds.last_mut().expect("a call").1 = Some(end);
                }
                "done" => report.done = Some(rest == "true"),
                "error" => report.error = Some(rest.to_owned()),
                other => panic!("a client says {other:?}"),
            }
        }
        report
    }
}
