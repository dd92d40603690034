//! The group kernel in plain Rust: the definition that the others reproduce bit for bit.

use half::f16;

use super::group::{GroupKind, PanelView, PANEL};
use super::rows::{RowTile, GROUP, TILE_ROWS};

/// Factor `index` of a panel's scales or minimums.
unsafe fn factor(kind: GroupKind, base: *const u8, index: usize) -> f32 {
    // SAFETY: the caller's index lies inside the panel's factors, which are aligned for their type.
    unsafe {
        if kind.half {
            f16::from_bits(*base.cast::<u16>().add(index)).to_f32()
        } else {
            *base.cast::<f32>().add(index)
        }
    }
}

unsafe fn code(kind: GroupKind, panel: PanelView, group: usize, lane: usize, i: usize) -> i32 {
    let (vector, offset) = (i / 4, lane * 4 + i % 4);
    // SAFETY: group, lane and i lie inside the panel.
    let code = unsafe {
        if kind.code_bits == 8 {
            *panel.codes.add((group * 8 + vector) * 64 + offset)
        } else {
            *panel.codes.add((group * 4 + vector % 4) * 64 + offset) >> (4 * (vector / 4)) & 15
        }
    };
    i32::from(code) - i32::from(panel.zero)
}

/// `out[r][c]` for rows `0..num_rows` of the tile and the panel's 16 outputs; `out` is f32
/// (num_rows, 16).
///
/// # Safety
/// `panel` and `tile` describe whole buffers of the same number of groups; `out` has the room.
pub unsafe fn panel_tile(
    kind: GroupKind,
    panel: PanelView,
    tile: RowTile,
    num_rows: usize,
    out: *mut f32,
) {
    let width = GROUP / kind.subs;
    for row in 0..num_rows {
        for lane in 0..PANEL {
            let mut acc = 0f32;
            for group in 0..panel.num_groups {
                // SAFETY: all indexes are below the bounds that the caller vouches for.
                unsafe {
                    let scale_x = *tile.scales.add(group * TILE_ROWS + row);
                    let x = tile.codes.add((group * TILE_ROWS + row) * GROUP);
                    for sub in 0..kind.subs {
                        let dot: i32 = (sub * width..(sub + 1) * width)
                            .map(|i| code(kind, panel, group, lane, i) * i32::from(*x.add(i)))
                            .sum();
                        let index = (group * kind.subs + sub) * PANEL + lane;
                        let scale = factor(kind, panel.scales, index) * scale_x;
                        acc = (dot as f32).mul_add(scale, acc);
                        if kind.has_mins {
                            let sum = *tile.scaled_sums.add(group * TILE_ROWS + row);
                            acc = factor(kind, panel.mins, index).mul_add(sum, acc);
                        }
                    }
                }
            }
            // SAFETY: room for (num_rows, 16).
            unsafe { *out.add(row * PANEL + lane) = acc };
        }
    }
}
