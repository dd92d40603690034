//! Packing the rows of a file's blocks, all threads at once.

use std::cell::RefCell;
use std::sync::Mutex;

use super::group::{GroupLinear, GroupPacker, RowParts, PANEL};
use crate::gguf::{decode_row, Format, FormatError};
use crate::threads::ThreadPool;

thread_local! {
    /// Codes, scales and minimums of the row being packed.
    static ROW: RefCell<(Vec<u8>, Vec<f32>, Vec<f32>)> =
        const { RefCell::new((Vec::new(), Vec::new(), Vec::new())) };
}

impl GroupLinear {
    /// A quantised (rows, cols) weight out of a file's blocks, its values unchanged.
    ///
    /// # Errors
    /// When `data` is not exactly `rows` rows of `cols` weights of `format`.
    pub fn from_blocks(
        pool: &ThreadPool,
        format: Format,
        data: &[u8],
        rows: usize,
        cols: usize,
    ) -> Result<GroupLinear, FormatError> {
        let row_bytes = format.check_rows(data.len(), rows, cols)?;
        let bits = if format.code_bits() <= 4 { 4 } else { 8 };
        let group_len = format.group_len();
        let packer = GroupPacker::new(rows, cols, bits, group_len, format.zero_point());
        let failure = Mutex::new(None);
        pool.run(&|worker| {
            worker.for_each(packer.num_panels(), |panel| {
                ROW.with_borrow_mut(|(codes, scales, mins)| {
                    codes.resize(cols, 0);
                    scales.resize(cols / group_len, 0.0);
                    mins.resize(cols / group_len, 0.0);
                    for row in panel * PANEL..rows.min((panel + 1) * PANEL) {
                        let bytes = &data[row * row_bytes..][..row_bytes];
                        match decode_row(format, bytes, codes, scales, mins) {
                            // SAFETY: each panel is one item.
                            Ok(()) => unsafe {
                                packer.pack_row(row, &RowParts { codes, scales, mins });
                            },
                            Err(error) => {
                                failure
                                    .lock()
                                    .unwrap_or_else(|p| p.into_inner())
                                    .get_or_insert(error);
                            }
                        }
                    }
                });
            });
        });
        match failure.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
            Some(error) => Err(error),
            None => Ok(packer.finish()),
        }
    }
}
