//! Shared memory: nodes as files, and their life.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use artesian_bus::shm::{self, ShmNodes};
use artesian_bus::{BusError, GlobalAddr, NodeId, Verb, Verbs};

/// A pool of one test, removed at its end.
struct Pool(Arc<ShmNodes>);

impl Pool {
    fn new(test: &str) -> Pool {
        Pool(ShmNodes::open(&format!("test-{test}-{}", std::process::id())).unwrap())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn file(pool: &Pool, node: u16) -> std::path::PathBuf {
    let user = rustix::process::geteuid().as_raw();
    format!("/dev/shm/artesian.{user}.{}.node{node}", pool.0.name()).into()
}

#[test]
fn nodes_added_later_are_found() {
    let pool = Pool::new("later");
    let mine = pool.0.connect();
    let word = GlobalAddr::new(NodeId(3), 0);
    let lost = Err(BusError::NodeLost(NodeId(3)));
    assert_eq!(mine.batch(&mut [Verb::faa(word, 1)]), lost);
    // Another process's view of the same pool.
    let other = ShmNodes::open(pool.0.name()).unwrap();
    other.create_node(NodeId(3), 5000).unwrap();
    while mine.batch(&mut [Verb::faa(word, 1)]) == lost {
        mine.relax(1_000_000);
    }
    assert_eq!(mine.mailbox(word), 1);
    assert_eq!(mine.nodes(), [(NodeId(3), 8192)]);
    let mode = std::fs::metadata(file(&pool, 3)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(shm::pools().unwrap().contains(&pool.0.name().to_owned()));
}

#[test]
fn a_dead_node_is_lost_to_all_mappings_for_ever() {
    let pool = Pool::new("dead");
    pool.0.create_node(NodeId(0), 4096).unwrap();
    let other = ShmNodes::open(pool.0.name()).unwrap();
    let (mine, theirs) = (pool.0.connect(), other.connect());
    let word = GlobalAddr::new(NodeId(0), 0);
    mine.batch(&mut [Verb::faa(word, 7)]).unwrap();
    let view = theirs.map(word, 8).unwrap().cast::<u64>();
    other.kill_node(NodeId(0)).unwrap();
    let lost = Err(BusError::NodeLost(NodeId(0)));
    for verbs in [&mine, &theirs] {
        assert_eq!(verbs.batch(&mut [Verb::read(word, &mut [0; 8])]), lost);
        assert_eq!((verbs.mailbox(word), verbs.nodes(), verbs.map(word, 8)), (0, vec![], None));
    }
    // SAFETY: mapped as long as `theirs` lives, and nobody writes there any more.
    assert_eq!(unsafe { view.read_volatile() }, 0, "the memory was given back");
    assert!(pool.0.create_node(NodeId(0), 4096).is_err(), "the number is used up");
    pool.0.remove_node(NodeId(0)).unwrap();
    assert!(!file(&pool, 0).exists());
}

#[test]
fn a_node_is_made_once() {
    let pool = Pool::new("once");
    let made = std::thread::scope(|scope| {
        let make = || pool.0.create_node(NodeId(0), 4096).is_ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|&m| m).count()
    });
    assert_eq!(made, 1);
    assert_eq!(pool.0.remove().unwrap(), 1);
    assert_eq!(pool.0.remove().unwrap(), 0);
}

#[test]
fn impossible_nodes_are_refused_with_numbers() {
    let pool = Pool::new("refused");
    let refusal = |node, bytes| match pool.0.create_node(NodeId(node), bytes) {
        Err(BusError::System(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = refusal(0, 1 << 46);
    assert!(text.contains(&((1_u64 << 46) + 4096).to_string()) && text.contains("free"), "{text}");
    refusal(0, 0);
    refusal(0, u64::MAX);
    refusal(256, 4096);
    assert!(ShmNodes::open("../x").is_err());
}

#[test]
fn a_file_that_is_no_node_is_refused() {
    let pool = Pool::new("foreign");
    let verbs = pool.0.connect();
    let touch = |bytes: usize, mode: u32| {
        std::fs::write(file(&pool, 0), vec![0; bytes]).unwrap();
        std::fs::set_permissions(file(&pool, 0), PermissionsExt::from_mode(mode)).unwrap();
        let outcome = verbs.batch(&mut [Verb::faa(GlobalAddr::new(NodeId(0), 0), 1)]);
        assert!(matches!(outcome, Err(BusError::System(_))), "{outcome:?}");
    };
    touch(0, 0o600);
    touch(8191, 0o600);
    touch(8192, 0o644);
    // What cannot be somebody's node stays until its owner has looked at it.
    assert!(pool.0.remove().unwrap_err().to_string().contains("100644"));
    touch(8192, 0o600);
    assert_eq!(pool.0.nodes().unwrap(), []);
    assert_eq!(pool.0.remove().unwrap(), 1);
}

#[test]
fn a_waiter_notices_that_its_node_died() {
    let pool = Pool::new("waiter");
    pool.0.create_node(NodeId(0), 4096).unwrap();
    let word = GlobalAddr::new(NodeId(0), 8);
    std::thread::scope(|scope| {
        // An hour: only the node's death ends it.
        scope.spawn(|| pool.0.connect().wait_mailbox(word, 0, 3_600_000_000_000));
        pool.0.connect().relax(5_000_000);
        pool.0.kill_node(NodeId(0)).unwrap();
    });
}

#[test]
fn a_modelled_delay_lengthens_every_batch() {
    let pool = Pool::new("delay");
    pool.0.create_node(NodeId(0), 4096).unwrap();
    let verbs = pool.0.connect().with_delay(20_000);
    let start = verbs.now_ns();
    for _ in 0..5 {
        verbs.batch(&mut [Verb::faa(GlobalAddr::new(NodeId(0), 0), 1)]).unwrap();
    }
    assert!(verbs.now_ns() - start >= 100_000);
}

#[test]
fn large_copies_arrive_whole_at_any_alignment() {
    let pool = Pool::new("large");
    pool.0.create_node(NodeId(0), 3 << 20).unwrap();
    let verbs = pool.0.connect();
    let from: Vec<u8> =
        (0..2_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (skew, offset) in [(0, 0), (0, 64), (3, 3), (1, 6), (8, 5)] {
        let addr = GlobalAddr::new(NodeId(0), 4096 + offset);
        let mut into = vec![0; from.len()];
        let mut batch = [Verb::write(addr, &from[skew..]), Verb::read(addr, &mut into[skew..])];
        verbs.batch(&mut batch).unwrap();
        assert!(into[skew..] == from[skew..], "{skew} {offset}");
    }
}
