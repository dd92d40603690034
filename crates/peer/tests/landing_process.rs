//! Landings between two processes, one of which is stopped or killed: this binary starts itself.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use artesian_bus::shm::ShmVerbs;
use artesian_bus::{Verb, Verbs};
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_peer::landing::{Pad, Standing, Target, Writer, SLOT_BYTES};
use artesian_peer::region::{fingerprint, Area, Region, RegionShape};
use rustix::process::{getpid, kill_process, Pid, Signal};

const ROLE: &str = "ARTESIAN_LANDING_TEST_ROLE";
const REGION: &str = "ARTESIAN_LANDING_TEST_REGION";
const GENERATION: &str = "ARTESIAN_LANDING_TEST_GENERATION";
/// Every wait here ends.
const PATIENCE: Duration = Duration::from_secs(60);

fn layout() -> KvLayout {
    KvLayout::new(2, 1, 16, 32, KvDtype::F16).unwrap()
}

fn shape() -> RegionShape {
    RegionShape {
        control_bytes: SLOT_BYTES,
        mailbox_bytes: 0,
        block_bytes: layout().block_bytes() as u64,
        num_blocks: 4,
        fingerprint: fingerprint("test"),
        generation: 1,
    }
}

/// Not a test of its own: what the child does, told by the environment.
#[test]
fn child() {
    let (Ok(role), Ok(name)) = (std::env::var(ROLE), std::env::var(REGION)) else { return };
    let region = Region::open(&name, shape().block_bytes, shape().fingerprint).unwrap();
    let target = Target {
        control: shape().addr(Area::Control),
        num_slots: 1,
        arena: shape().addr(Area::Arena),
        num_blocks: 4,
        slot: 0,
        generation: std::env::var(GENERATION).unwrap().parse().unwrap(),
        first_block: 0,
        blocks: vec![2],
    };
    let writer = Writer::attach(target, layout(), 1, || region.connect()).unwrap();
    let bytes = vec![0xee; layout().layer_bytes()];
    assert!(writer.write_layer(0, 0, 32, &bytes));
    match role.as_str() {
        "stops while it writes" => kill_process(getpid(), Signal::STOP).unwrap(),
        "dies while it writes" => kill_process(getpid(), Signal::KILL).unwrap(),
        "stops between" => {
            writer.end_section();
            kill_process(getpid(), Signal::STOP).unwrap();
        }
        other => panic!("no role {other:?}"),
    }
    // A signal to a process stops its threads soon, but not at once.
    let (verbs, until) = (region.connect(), Instant::now() + PATIENCE);
    while verbs.mailbox(shape().addr(Area::Arena)) == 0 {
        assert!(Instant::now() < until, "nobody lets the writer go on");
        verbs.relax(100_000);
    }
    // The section that was open when it was stopped is still good; the next one is not.
    let goes_on = writer.write_layer(1, 0, 32, &bytes);
    assert_eq!(goes_on, role == "stops while it writes");
    writer.end_section();
    assert!(!writer.write_layer(1, 0, 32, &bytes) && !writer.look() && !writer.complete());
}

struct Scene {
    region: Region,
    pad: Pad<ShmVerbs>,
    child: Child,
}

impl Scene {
    fn new(role: &str) -> Scene {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-landing-{}-{number}", std::process::id());
        let region = Region::create(&name, shape()).unwrap();
        let mut pad = Pad::new(region.connect(), shape().addr(Area::Control), 1, 1);
        let (slot, generation) = pad.open().unwrap().unwrap();
        assert_eq!(slot, 0);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .envs([(ROLE, role), (REGION, &name), (GENERATION, &generation.to_string())])
            .spawn()
            .unwrap();
        Scene { region, pad, child }
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Scene) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "{what} takes too long");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait_until_stopped(&mut self) {
        self.wait("stopping", |scene| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", scene.child.id())).unwrap();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }

    /// The writer goes on once the first word of the arena, which is not lent, is set.
    fn go_on(&mut self) {
        let word = shape().addr(Area::Arena);
        self.region.connect().batch(&mut [Verb::faa(word, 1)]).unwrap();
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
    }

    fn standing(&self) -> Standing {
        self.pad.standing(0).unwrap()
    }

    /// The block that was lent.
    fn block(&self) -> Vec<u8> {
        let mut bytes = vec![0; layout().block_bytes()];
        let at = shape().addr(Area::Arena).add(2 * shape().block_bytes);
        self.region.connect().batch(&mut [Verb::read(at, &mut bytes)]).unwrap();
        bytes
    }

    fn fill_block(&self) {
        let at = shape().addr(Area::Arena).add(2 * shape().block_bytes);
        let bytes = vec![0x11; layout().block_bytes()];
        self.region.connect().batch(&mut [Verb::write(at, &bytes)]).unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn blocks_of_a_writer_that_was_stopped_while_it_writes_stay_until_it_has_seen_it() {
    let mut scene = Scene::new("stops while it writes");
    scene.wait_until_stopped();
    assert_eq!(scene.standing(), Standing::Writing);
    assert!(scene.pad.idle_ns(0).unwrap() < PATIENCE.as_nanos() as u64);
    assert!(!scene.pad.revoke(0).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(scene.standing(), Standing::Quarantined);
    assert!(scene.pad.release(0).is_err() && !scene.pad.writer_is_dead(0).unwrap());
    scene.go_on();
    scene.wait("quarantine", |scene| scene.pad.is_quiet(0).unwrap());
    assert_eq!(scene.standing(), Standing::Revoked);
    scene.fill_block();
    assert!(scene.child.wait().unwrap().success());
    assert!(scene.block().iter().all(|&byte| byte == 0x11));
    scene.pad.release(0).unwrap();
}

#[test]
fn blocks_of_a_writer_that_dies_while_it_writes_come_back() {
    let mut scene = Scene::new("dies while it writes");
    scene.wait("dying", |scene| scene.pad.writer_is_dead(0).unwrap());
    // Nobody has reaped it yet, but it writes no more.
    assert!(scene.pad.revoke(0).unwrap());
    assert_eq!(scene.standing(), Standing::Revoked);
    assert_eq!(scene.child.wait().unwrap().signal(), Some(9));
    scene.pad.release(0).unwrap();
    assert!(scene.pad.open().unwrap().is_some());
}

#[test]
fn blocks_of_a_writer_that_was_stopped_in_quarantine_and_killed_come_back() {
    let mut scene = Scene::new("stops while it writes");
    scene.wait_until_stopped();
    assert!(!scene.pad.revoke(0).unwrap());
    scene.child.kill().unwrap();
    scene.wait("quarantine", |scene| scene.pad.is_quiet(0).unwrap());
    assert!(scene.pad.writer_is_dead(0).unwrap());
}

#[test]
fn blocks_of_a_writer_that_was_stopped_between_sections_are_free_at_once() {
    let mut scene = Scene::new("stops between");
    scene.wait_until_stopped();
    assert!(scene.pad.revoke(0).unwrap());
    scene.pad.release(0).unwrap();
    scene.fill_block();
    // The slot and the block have their next landing before the writer wakes up.
    assert!(scene.pad.open().unwrap().is_some());
    scene.go_on();
    assert!(scene.child.wait().unwrap().success());
    assert!(scene.block().iter().all(|&byte| byte == 0x11));
    assert_eq!(scene.standing(), Standing::Open);
}
