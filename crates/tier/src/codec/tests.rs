//! Codecs against the slow and obvious: numbers by token, rounded one by one.

use std::collections::HashMap;

use artesian_kernels::kv::{KvDtype, KvLayout};
use half::{bf16, f16};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::store::KEY_BYTES;

const LAYERS: usize = 2;
const HEADS: usize = 3;
const TOKENS: usize = 64;

fn layout(head_dim: usize, dtype: KvDtype) -> KvLayout {
    KvLayout::new(LAYERS, HEADS, head_dim, TOKENS, dtype).unwrap()
}

/// Where number `dim` of a token of a group lies, by the table in `artesian_kernels::kv`.
fn element(layout: &KvLayout, is_key: bool, token: usize, dim: usize) -> usize {
    let head_dim = layout.head_dim();
    match (layout.dtype(), is_key) {
        (KvDtype::Bf16, true) => {
            ((token / 16 * head_dim / 2 + dim / 2) * 16 + token % 16) * 2 + dim % 2
        }
        (KvDtype::Bf16, false) => ((dim / 16 * 16 + token / 2) * 16 + dim % 16) * 2 + token % 2,
        (_, true) => dim * 32 + token,
        (_, false) => token * head_dim + dim,
    }
}

fn put(dtype: KvDtype, number: f32, bytes: &mut [u8]) {
    match dtype {
        KvDtype::F32 => bytes.copy_from_slice(&number.to_le_bytes()),
        KvDtype::F16 => bytes.copy_from_slice(&f16::from_f32(number).to_le_bytes()),
        _ => bytes.copy_from_slice(&bf16::from_f32(number).to_le_bytes()),
    }
}

fn get(dtype: KvDtype, bytes: &[u8]) -> f32 {
    match dtype {
        KvDtype::F32 => f32::from_le_bytes(bytes.try_into().unwrap()),
        KvDtype::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
        _ => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
    }
}

/// Some numbers whose size differs from token to token.
fn numbers(layout: &KvLayout, seed: u64) -> Vec<u8> {
    let size = layout.dtype().element_bytes();
    let mut random = seed | 1;
    let mut block = vec![0; layout.block_bytes()];
    for bytes in block.chunks_exact_mut(size) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        let unit = (random >> 40) as f32 / (1 << 24) as f32 - 0.5;
        put(layout.dtype(), unit * ((random >> 20 & 7) as f32).exp2(), bytes);
    }
    block
}

/// The block as int8 should give it back.
fn rounded(layout: &KvLayout, block: &[u8]) -> Vec<u8> {
    let (dtype, size) = (layout.dtype(), layout.dtype().element_bytes());
    let mut result = block.to_vec();
    for (side, bytes) in result.chunks_exact_mut(layout.side_bytes()).enumerate() {
        for token in 0..32 {
            let places: Vec<usize> = (0..layout.head_dim())
                .map(|dim| element(layout, side % 2 == 0, token, dim) * size)
                .collect();
            let values: Vec<f32> =
                places.iter().map(|&at| get(dtype, &bytes[at..at + size])).collect();
            let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for (at, value) in places.into_iter().zip(values) {
                let code =
                    if most > 0.0 { (value * (127.0 / most)).round_ties_even() } else { 0.0 };
                let code = f32::from(code.clamp(-127.0, 127.0) as i8);
                put(dtype, code * (most / 127.0), &mut bytes[at..at + size]);
            }
        }
    }
    result
}

fn there_and_back(codec: &dyn Codec, block: &[u8]) -> (usize, Vec<u8>) {
    let mut bytes = vec![7; 3];
    assert!(codec.encode(block, &mut bytes));
    let mut back = vec![1; block.len()];
    assert!(codec.decode(&bytes[3..], &mut back));
    (bytes.len() - 3, back)
}

#[test]
fn int8_rounds_by_token_and_head() {
    for dtype in [KvDtype::F32, KvDtype::F16, KvDtype::Bf16] {
        for head_dim in [16, 64, 80, 256] {
            let layout = layout(head_dim, dtype);
            let block = numbers(&layout, head_dim as u64);
            let (bytes, back) = there_and_back(&Int8::new(layout).unwrap(), &block);
            assert!(back == rounded(&layout, &block), "{dtype:?} {head_dim}");
            let numbers = LAYERS * HEADS * TOKENS * 2;
            assert_eq!(bytes, numbers * (head_dim + 4));
        }
    }
    assert!(Int8::new(layout(64, KvDtype::Int8)).is_none());
}

#[test]
fn int8_leaves_what_it_cannot_round() {
    let layout = layout(64, KvDtype::Bf16);
    let codec = Int8::new(layout).unwrap();
    for odd in [f32::NAN, f32::INFINITY] {
        let mut block = numbers(&layout, 1);
        put(KvDtype::Bf16, odd, &mut block[1_000..1_002]);
        assert!(!codec.encode(&block, &mut Vec::new()));
    }
    let zeros = vec![0; layout.block_bytes()];
    assert!(there_and_back(&codec, &zeros).1 == zeros);
    assert!(!codec.encode(&zeros[2..], &mut Vec::new()));
    assert!(!codec.decode(&[0; 100], &mut vec![0; layout.block_bytes()]));
}

proptest! {
    #[test]
    fn zstd_loses_nothing(
        block in prop::collection::vec(any::<u8>(), 0..3_000),
        element_bytes in 1..9_usize,
        garbage in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let codec = Zstd::new(element_bytes);
        prop_assert_eq!(&there_and_back(&codec, &block).1, &block);
        prop_assert_eq!(&there_and_back(&Zstd::new(1), &block).1, &block);
        codec.decode(&garbage, &mut vec![0; block.len()]);
    }
}

/// Blocks in memory, of any lengths.
#[derive(Default)]
struct Plain(Mutex<HashMap<Key, Vec<u8>>>);

impl Store for Plain {
    fn contains(&self, key: &Key) -> bool {
        self.0.lock().contains_key(key)
    }

    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved> {
        self.0.lock().insert(*key, bytes.to_vec());
        Ok(Saved::New)
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        match self.0.lock().get(key) {
            Some(bytes) if bytes.len() == into.len() => into.copy_from_slice(bytes),
            Some(_) => return Ok(Loaded::Corrupt),
            None => return Ok(Loaded::Absent),
        }
        Ok(Loaded::Hit)
    }

    fn stored_bytes(&self, key: &Key) -> Option<u64> {
        self.0.lock().get(key).map(|bytes| bytes.len() as u64)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        Ok(self.0.lock().remove(key).is_some())
    }

    fn refresh(&self) -> Result<()> {
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

fn key(number: u8) -> Key {
    [number; KEY_BYTES]
}

#[test]
fn stores_with_and_without_a_codec_share_blocks() {
    let layout = layout(64, KvDtype::Bf16);
    let block = numbers(&layout, 5);
    let noise: Vec<u8> = (0..block.len() as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ ((at * at) >> 7) as u8)
        .collect();
    let inner = Arc::new(Plain::default());
    let plain = Packed::new(inner.clone(), None);
    let zstd = Packed::new(inner.clone(), Some(Arc::new(Zstd::new(2))));
    let int8 = Packed::new(inner.clone(), Some(Arc::new(Int8::new(layout).unwrap())));
    zstd.save(&key(1), &block).unwrap();
    plain.save(&key(2), &block).unwrap();
    int8.save(&key(3), &block).unwrap();
    zstd.save(&key(4), &noise).unwrap();
    let stored = [1, 2, 3, 4].map(|number| inner.stored_bytes(&key(number)).unwrap() as usize);
    assert!(stored[0] < block.len() && stored[2] < block.len() * 6 / 10, "{stored:?}");
    assert!(stored[1] == block.len() && stored[3] <= noise.len());
    let load = |store: &Packed, number: u8| {
        let mut into = vec![0; block.len()];
        let part = store.part_bytes(&key(number), block.len());
        assert_eq!(part, block.len());
        let loaded = store.load_part(&key(number), 0, &mut into).unwrap();
        (loaded, into)
    };
    for store in [&plain, &zstd, &int8] {
        assert!(load(store, 1) == (Loaded::Hit, block.clone()));
        assert!(load(store, 2) == (Loaded::Hit, block.clone()));
        assert!(load(store, 4) == (Loaded::Hit, noise.clone()));
    }
    assert!(load(&int8, 3) == (Loaded::Hit, rounded(&layout, &block)));
    assert_eq!(load(&zstd, 3).0, Loaded::Corrupt, "it does not know that codec");
    assert_eq!(load(&int8, 3).0, Loaded::Absent);
}

#[test]
fn damaged_frames_are_misses() {
    let block = numbers(&layout(16, KvDtype::F16), 3);
    let inner = Arc::new(Plain::default());
    let store = Packed::new(inner.clone(), Some(Arc::new(Zstd::new(2))));
    for at in [0, 9, 17, 24, 25, 40] {
        store.save(&key(1), &block).unwrap();
        inner.0.lock().get_mut(&key(1)).unwrap()[at] ^= 0x40;
        let mut into = vec![0; block.len()];
        let loaded = store.load(&key(1), &mut into).unwrap();
        assert!(loaded == Loaded::Corrupt || into == block, "{at}");
        store.remove(&key(1)).unwrap();
    }
    store.save(&key(1), &block).unwrap();
    assert_eq!(store.load(&key(1), &mut vec![0; block.len() + 64]).unwrap(), Loaded::Corrupt);
}
