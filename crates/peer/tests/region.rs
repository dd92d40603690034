//! Regions: files of shared memory that peers find, refuse and lose.

use artesian_bus::{BusError, GlobalAddr, Verb, Verbs};
use artesian_peer::region::{fingerprint, Area, Region, RegionShape, HUGE_PAGE, NODE};
use artesian_peer::PeerError;

fn name(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

fn shape() -> RegionShape {
    RegionShape {
        control_bytes: 5000,
        mailbox_bytes: 300,
        block_bytes: 1 << 20,
        num_blocks: 5,
        fingerprint: fingerprint("a model in bf16"),
        generation: 3,
    }
}

fn open(name: &str) -> Result<Region, PeerError> {
    Region::open(name, 1 << 20, fingerprint("a model in bf16"))
}

#[test]
fn areas_lie_apart_and_the_arena_on_huge_pages() {
    let shape = shape();
    let ranges = [Area::Control, Area::Mailboxes, Area::Arena].map(|area| shape.range(area));
    assert!(ranges[0].start >= 4096);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert_eq!(ranges[2].start % HUGE_PAGE, 0);
    assert!(shape.num_bytes() >= ranges[2].end && shape.num_bytes().is_multiple_of(HUGE_PAGE));
}

#[test]
fn a_peer_writes_what_the_owner_reads_in_place() {
    let name = name("place");
    let region = Region::create(&name, shape()).unwrap();
    let peer = open(&name).unwrap();
    assert_eq!((peer.shape(), peer.owner()), (region.shape(), region.owner()));
    let (arena, bytes) = region.area(Area::Arena);
    assert_eq!((arena.addr() as u64 % HUGE_PAGE, bytes), (0, 5 << 20));
    let at = peer.shape().addr(Area::Arena).add((3 << 20) + 8);
    peer.connect().batch(&mut [Verb::write(at, &[7; 64])]).unwrap();
    // SAFETY: in bounds, and nobody writes any more.
    let seen = unsafe { std::slice::from_raw_parts(arena.add(3 << 20), 80) };
    assert_eq!(seen, [[0; 8].as_slice(), &[7; 64], &[0; 8]].concat());
}

#[test]
fn backing_changes_no_byte() {
    let name = name("back");
    let region = Region::create(&name, shape()).unwrap();
    let at = region.shape().addr(Area::Arena);
    let content: Vec<u8> = (0..5 << 20).map(|i| (i / 4096 * 7 + i % 251) as u8).collect();
    let verbs = region.connect();
    verbs.batch(&mut [Verb::write(at, &content)]).unwrap();
    // Old kernels refuse; that is no fault.
    region.back(0..1);
    region.back(1 << 20..5 << 20);
    let mut seen = vec![0; 5 << 20];
    verbs.batch(&mut [Verb::read(at, &mut seen)]).unwrap();
    assert!(seen == content);
}

#[test]
fn peers_with_other_blocks_are_refused_and_told_why() {
    let name = name("other");
    let _region = Region::create(&name, shape()).unwrap();
    let other = [(1 << 20, fingerprint("a model in f32")), (1 << 19, shape().fingerprint)];
    for (block_bytes, fingerprint) in other {
        let error = Region::open(&name, block_bytes, fingerprint).err().unwrap();
        assert!(matches!(error, PeerError::Mismatch { .. }));
        assert!(error.to_string().contains(&name) && error.to_string().contains("same model"));
    }
}

#[test]
fn damaged_headers_are_refused() {
    let name = name("damaged");
    let region = Region::create(&name, shape()).unwrap();
    let verbs = region.connect();
    // Magic, version, control bytes, mailbox bytes, block bytes, blocks.
    for word in [0, 1, 5, 6, 7, 8] {
        let at = GlobalAddr::new(NODE, word * 8);
        let mut before = [0; 8];
        verbs.batch(&mut [Verb::read(at, &mut before)]).unwrap();
        for bad in [0, u64::MAX, 1 << 45] {
            if [5, 6].contains(&word) && bad == 0 {
                continue; // Less than there is room for.
            }
            verbs.batch(&mut [Verb::write(at, &u64::to_le_bytes(bad))]).unwrap();
            let error = open(&name).err();
            assert!(matches!(error, Some(PeerError::Mismatch { .. })), "{word} {bad} {error:?}");
        }
        verbs.batch(&mut [Verb::write(at, &before)]).unwrap();
    }
    open(&name).unwrap();
}

#[test]
fn a_region_ends_with_its_owner_s_handle_or_by_hand() {
    let name = name("ends");
    assert_eq!(open(&name).err(), Some(PeerError::Bus(BusError::NodeLost(NODE))));
    assert!(!Region::remove(&name).unwrap());
    let region = Region::create(&name, shape()).unwrap();
    assert!(matches!(Region::create(&name, shape()), Err(PeerError::Bus(_))));
    let peer = open(&name).unwrap();
    assert!(Region::names().unwrap().contains(&name));
    drop(region);
    assert!(!Region::names().unwrap().contains(&name));
    assert!(peer.is_lost());
    let at = peer.shape().addr(Area::Control);
    assert_eq!(peer.connect().batch(&mut [Verb::faa(at, 1)]), Err(BusError::NodeLost(NODE)));
    // Its owner died, and another has the name.
    let dead = Region::create(&name, shape()).unwrap();
    assert!(Region::remove(&name).unwrap());
    assert!(dead.is_lost());
    let _next = Region::create(&name, shape()).unwrap();
    drop(dead);
    open(&name).unwrap();
}

#[test]
fn impossible_sizes_are_refused() {
    for bad in [
        RegionShape { num_blocks: 0, ..shape() },
        RegionShape { block_bytes: 100, ..shape() },
        RegionShape { num_blocks: u64::MAX / 2, ..shape() },
        RegionShape { control_bytes: u64::MAX, ..shape() },
    ] {
        assert!(matches!(Region::create(&name("bad"), bad), Err(PeerError::Shape(_))), "{bad:?}");
    }
}
