//! Keys to new positions against keys that are stored there, and against a plain f64 rotation.

use std::f64::consts::SQRT_2;

use artesian_kernels::attention::{
    store, AttentionBatch, AttentionLayer, AttentionPlan, AttentionShape, Rope, RopeRows, Turn,
    TurnScratch,
};
use artesian_kernels::buffer::Buffer;
use artesian_kernels::isa::{available, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout, GROUP_TOKENS};

/// xorshift64*, enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() as f64 / (1u64 << 51) as f64 - 2.0) as f32).collect()
    }
}

/// A layer of one block, and how its keys are rotated.
struct Case {
    layout: KvLayout,
    inv_freq: Vec<f32>,
    interleaved: bool,
    magnitude: f32,
    isa: Isa,
    qkv: Vec<f32>,
}

impl Case {
    fn random(random: &mut Random, dtype: KvDtype, isa: Isa) -> Case {
        let head_dim = random.pick(&[16, 48, 64, 80, 256]);
        let num_heads = random.pick(&[1, 2, 3]);
        let block_size = random.pick(&[32, 64]);
        let layout = KvLayout::new(1, num_heads, head_dim, block_size, dtype).unwrap();
        let num_pairs = random.pick(&[3, head_dim / 4, head_dim / 2]);
        Case {
            layout,
            inv_freq: (0..num_pairs).map(|i| 1e4f32.powf(-(i as f32) / num_pairs as f32)).collect(),
            interleaved: random.pick(&[false, true]),
            magnitude: random.pick(&[1.0, 1.25]),
            isa,
            qkv: random.floats(block_size * 3 * num_heads * head_dim),
        }
    }

    fn rope(&self) -> Rope {
        Rope::new(&self.inv_freq, self.interleaved, self.magnitude)
    }

    /// The block as the kernels store it for tokens from `position` on.
    fn stored(&self, position: usize) -> Buffer<u8> {
        let layout = &self.layout;
        let (heads, size) = (layout.num_kv_heads(), layout.block_size_tokens());
        let positions: Vec<i32> = (position..position + size).map(|p| p as i32).collect();
        let (row_starts, context_lens) = ([0, size as i32], [(position + size) as i32]);
        let block_tables = vec![0; context_lens[0] as usize / size];
        let batch = AttentionBatch {
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &context_lens,
            block_tables: &block_tables,
            table_stride: block_tables.len(),
            sparse: &[],
        };
        let shape = AttentionShape {
            num_heads: heads,
            num_kv_heads: heads,
            head_dim: layout.head_dim(),
            scale: 1.0,
            window: None,
            softcap: None,
        };
        let plan = AttentionPlan::new(&batch, layout, &shape, 1, 1, self.isa).unwrap();
        let arena = Buffer::<u8>::zeroed(layout.block_bytes());
        let rope = RopeRows::new(&self.rope(), &positions);
        let layer = AttentionLayer {
            layer: 0,
            q_norm: None,
            k_norm: None,
            norm_eps: 1e-6,
            rope: &rope,
            qkv: self.qkv.as_ptr(),
            qkv_stride: 3 * heads * layout.head_dim(),
            out: std::ptr::null_mut(),
            out_stride: 0,
            arena: arena.as_ptr_mut(),
        };
        for item in 0..plan.num_store_items() {
            // SAFETY: the arena has the only block, and nobody else uses it.
            unsafe { store(&plan, &layer, item) };
        }
        arena
    }

    fn turned(&self, turn: &Turn, block: &Buffer<u8>) -> Buffer<u8> {
        let to = Buffer::<u8>::zeroed(block.len());
        let (layout, mut scratch) = (&self.layout, TurnScratch::new());
        // SAFETY: both are blocks of one layer.
        unsafe { turn.layer(self.isa, layout, block.as_ptr(), to.as_ptr_mut(), &mut scratch) };
        to
    }

    fn groups<'a>(&self, block: &'a Buffer<u8>) -> Vec<&'a [u8]> {
        block.as_slice().chunks_exact(self.layout.group_bytes()).collect()
    }

    /// The bytes of a group that hold no keys.
    fn values<'a>(&self, group: &'a [u8]) -> Vec<&'a [u8]> {
        let side = self.layout.side_bytes();
        let scales = &group[2 * side..];
        vec![&group[side..2 * side], &scales[scales.len() / 2..]]
    }

    /// Key `token` of a group, as the format is described.
    fn key(&self, group: &[u8], token: usize) -> Vec<f64> {
        let (dims, side) = (self.layout.head_dim(), self.layout.side_bytes());
        let half = |at: usize| u16::from_le_bytes([group[2 * at], group[2 * at + 1]]);
        let float = |at: usize| f32::from_le_bytes(group[4 * at..4 * at + 4].try_into().unwrap());
        let one = |dim: usize| match self.layout.dtype() {
            KvDtype::F32 => f64::from(float(dim * GROUP_TOKENS + token)),
            KvDtype::F16 => half::f16::from_bits(half(dim * GROUP_TOKENS + token)).to_f64(),
            KvDtype::Bf16 => {
                let row = token / 16 * (dims / 2) + dim / 2;
                half::bf16::from_bits(half(row * 32 + token % 16 * 2 + dim % 2)).to_f64()
            }
            KvDtype::Int8 => {
                let scale = f64::from(float(2 * side / 4 + token));
                f64::from(group[dim * GROUP_TOKENS + token] as i8) * scale
            }
        };
        (0..dims).map(one).collect()
    }

    fn rotated(&self, key: &[f64], delta: i32) -> Vec<f64> {
        let (mut key, num_pairs) = (key.to_vec(), self.inv_freq.len());
        for (i, &freq) in self.inv_freq.iter().enumerate() {
            let (sin, cos) = (f64::from(delta) * f64::from(freq)).sin_cos();
            let (a, b) = if self.interleaved { (2 * i, 2 * i + 1) } else { (i, i + num_pairs) };
            (key[a], key[b]) = (key[a] * cos - key[b] * sin, key[b] * cos + key[a] * sin);
        }
        key
    }

    /// Largest difference of two keys that rounding once may make, for the largest of the key.
    fn rounding(&self, largest: f64) -> f64 {
        largest
            * match self.layout.dtype() {
                KvDtype::F32 => 1e-6,
                KvDtype::F16 => 2f64.powi(-11),
                KvDtype::Bf16 => 2f64.powi(-8),
                KvDtype::Int8 => 1.0 / 253.0,
            }
    }

    /// Compares all keys of two blocks; `times` roundings may lie between them.
    fn assert_close(&self, a: &Buffer<u8>, b: &Buffer<u8>, times: f64) {
        for (a, b) in self.groups(a).into_iter().zip(self.groups(b)) {
            assert_eq!(self.values(a), self.values(b));
            for token in 0..GROUP_TOKENS {
                let (a, b) = (self.key(a, token), self.key(b, token));
                let largest = b.iter().fold(0f64, |most, x| most.max(x.abs()));
                for (a, b) in a.iter().zip(&b) {
                    let most = times * SQRT_2 * self.rounding(largest);
                    assert!(
                        (a - b).abs() <= most,
                        "{:?} {:?}: {a}, not {b}",
                        self.isa,
                        self.layout
                    );
                }
            }
        }
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let mut random = Random(11);
    let each = |dtype| available().map(move |isa| (dtype, isa));
    let kinds: Vec<_> = KvDtype::ALL.into_iter().flat_map(each).collect();
    (0..8)
        .flat_map(move |_| kinds.clone())
        .map(move |(dtype, isa)| Case::random(&mut random, dtype, isa))
}

#[test]
fn a_turned_block_is_the_rotation_of_what_it_was_rounded_once() {
    for case in cases() {
        let from = case.stored(256);
        let to = case.turned(&Turn::new(&case.rope(), -192), &from);
        for (from, to) in case.groups(&from).into_iter().zip(case.groups(&to)) {
            assert_eq!(case.values(from), case.values(to));
            for token in 0..GROUP_TOKENS {
                let expected = case.rotated(&case.key(from, token), -192);
                let largest = expected.iter().fold(0f64, |most, x| most.max(x.abs()));
                for (got, expected) in case.key(to, token).iter().zip(&expected) {
                    let most = 1.01 * case.rounding(largest) + 1e-6;
                    assert!((got - expected).abs() <= most, "{got}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn a_turned_block_is_the_one_that_would_be_stored_there_within_rounding() {
    for case in cases() {
        for (old, new) in [(0, 64), (4096, 64), (131_072, 0)] {
            let delta = new as i32 - old as i32;
            let turned = case.turned(&Turn::new(&case.rope(), delta), &case.stored(old));
            case.assert_close(&turned, &case.stored(new), 3.0);
        }
    }
}

#[test]
fn turning_twice_is_turning_by_the_sum_within_rounding() {
    for case in cases() {
        let (rope, block) = (case.rope(), case.stored(640));
        let twice = case.turned(&Turn::new(&rope, -64), &block);
        let twice = case.turned(&Turn::new(&rope, -320), &twice);
        case.assert_close(&twice, &case.turned(&Turn::new(&rope, -384), &block), 3.0);
    }
}

#[test]
fn without_a_rotation_a_block_is_copied_bit_for_bit() {
    for case in cases() {
        let block = case.stored(64);
        assert_eq!(case.turned(&Turn::none(), &block).as_slice(), block.as_slice());
    }
}

#[test]
#[should_panic(expected = "rotates more dimensions")]
fn a_rope_wider_than_a_head_is_refused() {
    let case = Case::random(&mut Random(3), KvDtype::F16, Isa::Portable);
    let rope = Rope::new(&[1.0; 129], false, 1.0);
    case.turned(&Turn::new(&rope, 1), &case.stored(0));
}
