//! The whole tree.

use crate::{AccessStreamTree, FilesError, Options, Read, Rule, Verdict};

const MIB: u64 = 1 << 20;

fn tree() -> AccessStreamTree {
    AccessStreamTree::new(Options::default()).unwrap()
}

struct Reader<'a> {
    tree: &'a mut AccessStreamTree,
    time_s: f64,
}

impl Reader<'_> {
    fn read(&mut self, path: &str, offset: u64, length: u64, file_bytes: u64, reader: u64) -> u32 {
        self.time_s += 0.5;
        let (stream, time_s) = (reader, self.time_s);
        let read = Read { path, offset, length, file_bytes, stream, reader, time_s };
        self.tree.access(&read).unit
    }
}

fn shuffled(n: u32, seed: u64) -> Vec<u32> {
    let mut state = seed | 1;
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..n as usize).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(i, (state % (i as u64 + 1)) as usize);
    }
    order
}

fn list(tree: &mut AccessStreamTree, folder: &str, n: u32) {
    let names: Vec<String> = (0..n).map(|i| format!("f{i:06}")).collect();
    tree.list(folder, names.iter().map(String::as_str));
}

#[test]
fn options_are_checked() {
    for options in [
        Options { alpha: 0.0, ..Options::default() },
        Options { window: 3, ..Options::default() },
        Options { full_after: 500, ..Options::default() },
        Options { num_frontiers: 17, ..Options::default() },
    ] {
        assert!(matches!(AccessStreamTree::new(options), Err(FilesError::Invalid(_))));
    }
}

#[test]
fn a_folder_is_random_while_its_files_are_read_in_order() {
    let mut tree = tree();
    list(&mut tree, "s3://b/train", 400);
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in shuffled(400, 5).into_iter().take(120) {
        for block in 0..20 {
            let path = format!("s3://b/train/f{file:06}");
            reader.read(&path, block * 4 * MIB, 4 * MIB, 80 * MIB, 1);
        }
    }
    let changes = tree.take_changes();
    // Before the folder had a verdict, a file may have been a unit; then it is one no more.
    let last = changes.last().unwrap();
    assert_eq!((last.path.as_str(), last.verdict), ("s3://b/train", Verdict::Random));
    let unit = tree.unit_of("s3://b/train/f000001");
    assert_eq!(unit, tree.unit_of("s3://b/train"));
    let report = tree.unit(unit).unwrap();
    assert!((report.data_bytes - 400.0 * 80.0 * MIB as f64).abs() < 1e6);
    let file = format!("s3://b/train/f{:06}", shuffled(400, 5)[119]);
    let levels = tree.explain(&file);
    assert_eq!(levels.last().unwrap().finding.verdict, Verdict::Sequential);
    assert!(!levels.last().unwrap().is_unit);
}

#[test]
fn without_a_listing_names_are_ordered_among_themselves() {
    let mut tree = tree();
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in shuffled(1000, 9).into_iter().take(100) {
        reader.read(&format!("/a/random/f{file:06}"), 0, 10, 10, 1);
    }
    for file in 0..100 {
        reader.read(&format!("/a/scan/f{file:06}"), 0, 10, 10, 1);
    }
    let of = |path: &str| tree.explain(path).last().unwrap().clone();
    assert_eq!(of("/a/random").finding.verdict, Verdict::Random);
    assert_eq!(of("/a/scan").finding.verdict, Verdict::Sequential);
    assert!(of("/a/scan").is_provisional, "nobody knows what else is there");
}

#[test]
fn a_listing_that_comes_late_keeps_what_was_seen() {
    let mut tree = tree();
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in 0..120 {
        reader.read(&format!("/a/f{file:06}"), 0, 10, 10, 1);
    }
    list(&mut tree, "/a", 5000);
    let mut reader = Reader { tree: &mut tree, time_s: 100.0 };
    reader.read("/a/f000120", 0, 10, 10, 1);
    let level = tree.explain("/a").last().unwrap().clone();
    assert_eq!((level.finding.verdict, level.is_provisional), (Verdict::Sequential, false));
    assert_eq!(level.finding.num_children, 5000);
}

#[test]
fn a_verdict_changes_when_two_tests_in_a_row_say_so() {
    let mut tree = tree();
    list(&mut tree, "/a", 1000);
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in shuffled(1000, 3).into_iter().take(100) {
        reader.read(&format!("/a/f{file:06}"), 0, 10, 10, 1);
    }
    // A scan of as many: after 128 of them the window has nothing else.
    let mut seen = Vec::new();
    for file in 0..250 {
        reader.read(&format!("/a/f{file:06}"), 0, 10, 10, 1);
        seen.push(reader.tree.explain("/a").last().unwrap().finding.verdict);
    }
    let changed = seen.iter().position(|&verdict| verdict == Verdict::Sequential).unwrap();
    assert!(seen[..changed].iter().all(|&verdict| verdict == Verdict::Random));
    assert!((150..=250).contains(&changed), "changed after {changed}");
}

#[test]
fn a_file_read_in_no_order_below_a_scanned_folder_is_a_unit() {
    let mut tree = tree();
    list(&mut tree, "/a", 1000);
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in 0..120 {
        reader.read(&format!("/a/f{file:06}"), 0, 10, 10, 1);
    }
    for block in shuffled(500, 4) {
        reader.read("/a/f000500", u64::from(block) * 4 * MIB, 10, 2000 * MIB, 2);
    }
    assert_ne!(tree.unit_of("/a/f000500"), tree.unit_of("/a"));
    let level = tree.explain("/a/f000500").last().unwrap().clone();
    assert_eq!((level.finding.verdict, level.is_unit), (Verdict::Random, true));
}

#[test]
fn verdicts_are_remembered() {
    let mut first = tree();
    list(&mut first, "/a", 400);
    let mut reader = Reader { tree: &mut first, time_s: 0.0 };
    for _ in 0..3 {
        for file in 0..400 {
            reader.read(&format!("/a/f{file:06}"), 0, 10, 10, 1);
        }
    }
    let verdicts = first.remember();
    assert_eq!((verdicts[0].path.as_str(), verdicts[0].is_reread), ("/a", true));
    let mut second = tree();
    second.recall(verdicts);
    let mut reader = Reader { tree: &mut second, time_s: 0.0 };
    assert_ne!(reader.read("/a/f000007", 0, 10, 10, 1), 0, "a unit from the first access on");
    assert_eq!(second.explain("/a").last().unwrap().finding.rule, Rule::Remembered);
    assert!(second.was_reread("/a"));
    assert_eq!(second.remember().len(), 1);
}

#[test]
fn nodes_and_memory_are_bounded() {
    let options = Options { max_nodes: 200, max_listed: 1000, ..Options::default() };
    let mut tree = AccessStreamTree::new(options).unwrap();
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in 0..3000u64 {
        let path = format!("/a/b{}/f{file:06}", file % 40);
        for block in 0..8 {
            reader.read(&path, block * 4 * MIB, 4 * MIB, 32 * MIB, file % 7);
        }
    }
    assert!(tree.size().0 <= 200);
    list(&mut tree, "/big", 2000);
    assert!(tree.size().2 - tree.size().1 <= 1000 * 12, "a listing beyond the bound is not taken");
    assert!(tree.size().0 <= 201);
}

#[test]
fn a_full_node_takes_two_and_a_half_kilobytes() {
    let mut tree = tree();
    list(&mut tree, "/a", 50);
    let before = tree.size();
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for file in 0..50u64 {
        for block in 0..200 {
            let path = format!("/a/f{file:06}");
            reader.read(&path, block * 4 * MIB, 4 * MIB, 800 * MIB, block % 40);
        }
    }
    let after = tree.size();
    let each = (after.1 - before.1) / (after.0 - before.0);
    assert!(each <= 2560, "{each} bytes");
}

#[test]
fn odd_paths_and_reads_do_no_harm() {
    let mut tree = tree();
    let mut reader = Reader { tree: &mut tree, time_s: 0.0 };
    for path in ["", "/", "a", "//a//b/", "s3://", "s3:///x", "file:///a/b", "a://b://c"] {
        for (offset, length, size) in [(0, 0, 0), (u64::MAX, u64::MAX, u64::MAX), (5, 1, 3)] {
            reader.read(path, offset, length, size, 0);
        }
        tree_explains(reader.tree, path);
    }
    reader.time_s = f64::NAN;
    reader.read("/a/b", 0, 1, 1, 0);
}

fn tree_explains(tree: &AccessStreamTree, path: &str) {
    for level in tree.explain(path) {
        assert!(level.data_bytes.is_finite());
    }
}
