//! Files that are torn, damaged or made up, and disks that are full.

use proptest::prelude::*;

use super::{load_from, save_to, Scratch, TestPool};
use crate::archive::blocks::{BlockWriter, Header};
use crate::archive::record;
use crate::archive::verify;
use crate::store::Expiry;

/// A small file of three blocks and more.
fn sample(scratch: &Scratch) -> (TestPool, Vec<u8>) {
    let pool = TestPool::new(1, 1);
    let mut client = pool.client(1);
    let mut noise = 88_172_645_463_325_252_u64;
    for number in 0..300_u32 {
        let mut value = Vec::new();
        for _ in 0..1_500 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            value.extend_from_slice(&noise.to_le_bytes());
        }
        client.put(0, &number.to_le_bytes(), &value, Expiry::Never).unwrap();
    }
    let path = scratch.file("good");
    save_to(&mut client, &path, false).unwrap();
    (pool, std::fs::read(path).unwrap())
}

#[test]
fn any_cut_and_any_flipped_byte_is_noticed_and_nothing_is_restored() {
    let scratch = Scratch::new("cut");
    let (_, good) = sample(&scratch);
    assert!(good.len() > 3 << 20);
    let pool = TestPool::new(1, 1);
    let mut client = pool.client(1);
    let path = scratch.file("bad");
    let mut refuse = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let text = load_from(&mut client, &path).unwrap_err().to_string();
        assert!(text.contains("at byte"), "{what}: {text}");
        text
    };
    for cut in [0, 7, 63, 64, 70, 88, 5_000, 1 << 20, good.len() / 2, good.len() - 1] {
        refuse(&good[..cut], &format!("cut at {cut}"));
    }
    // Behind a whole block: the end is missing.
    let first = u32::from_le_bytes(good[68..72].try_into().unwrap()) as usize;
    let text = refuse(&good[..64 + 24 + first], "after a block");
    assert!(text.contains("cut short"), "{text}");
    for at in (0..200).chain((200..good.len()).step_by(good.len() / 23)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        refuse(&bytes, &format!("flipped at {at}"));
    }
    let mut longer = good.clone();
    longer.extend_from_slice(&[0; 30]);
    refuse(&longer, "something behind the end");
    let text =
        refuse(b"not a snapshot at all, but long enough to be read as the header of one!!", "");
    assert!(text.contains("this is no snapshot file"), "{text}");
    assert_eq!(client.count(0).unwrap(), 0, "nothing was restored");
    let text = load_from(&mut client, &scratch.file("nobody")).unwrap_err().to_string();
    assert!(text.contains("nobody: No such file"), "{text}");
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let pool = TestPool::new(1, 1);
    let mut client = pool.client(1);
    client.put(0, b"key", b"value", Expiry::Never).unwrap();
    let text = save_to(&mut client, std::path::Path::new("/dev/full/x"), false);
    assert!(text.unwrap_err().to_string().contains("/dev/full/x"));
    // A device without room, through the same writer.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let header = Header { pool_id: 1, saved_unix_ms: 2, frozen: false };
    let error = BlockWriter::new(full, header).err().unwrap();
    let text = crate::archive::file::error(std::path::Path::new("/dev/full"), &error).to_string();
    assert!(text.contains("No space left") && text.contains("make room"), "{text}");
    let scratch = Scratch::new("old");
    let path = scratch.file("file");
    save_to(&mut client, &path, false).unwrap();
    let before = std::fs::read(&path).unwrap();
    // A name too long for the file system stands for any failure on the way.
    let long = scratch.file(&"x".repeat(254));
    assert!(save_to(&mut client, &long, false).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(scratch.names(), ["file"]);
}

#[test]
fn a_pool_that_refuses_tells_how_much_was_restored() {
    let scratch = Scratch::new("refuses");
    let (_, good) = sample(&scratch);
    let path = scratch.file("file");
    std::fs::write(&path, good).unwrap();
    let memory = artesian_bus::heap::HeapNodes::new(1, 5 << 20);
    let config = crate::PoolConfig::for_size(5 << 20, 1, 1);
    crate::lifecycle::format(&memory.connect(9), &config).unwrap();
    let mut client = crate::client::Client::join(Box::new(memory.connect(1))).unwrap();
    let text = load_from(&mut client, &path).unwrap_err().to_string();
    assert!(text.contains(" of 300 values were restored, then: the pool is full"), "{text}");
    assert!(client.count(0).unwrap() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn hostile_files_give_errors(stream in proptest::collection::vec(any::<u8>(), 0..400),
        kind in 0_u8..5, whole: bool) {
        let scratch = Scratch::new("hostile");
        let path = scratch.file("file");
        let header = Header { pool_id: 1, saved_unix_ms: 2, frozen: true };
        let mut writer = BlockWriter::new(Vec::new(), header).unwrap();
        let mut stream = stream;
        if let Some(first) = stream.first_mut() {
            *first = kind;
        }
        if whole {
            record::value(&mut writer, 0, b"key", &stream, Some(3)).unwrap();
        }
        writer.write(&stream).unwrap();
        let (bytes, _) = writer.finish().unwrap();
        std::fs::write(&path, bytes).unwrap();
        let verified = verify(&path, &mut |_| ());
        prop_assert!(verified.is_err());
    }
}
