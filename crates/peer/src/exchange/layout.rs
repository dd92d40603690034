//! Where messages lie in the mailboxes of a region.
//!
//! First words that everybody reads, then a request box for each client of the executor, then an
//! answer box for each executor that the region's owner is a client of. Whoever receives a message
//! has it in his own region, written by the sender. All boxes begin on cache lines.
//!
//! A *post* word says which message of a box is complete: the number of the connection in its high
//! half, that of the message in its low half, which the receiver can sleep on.

use artesian_bus::GlobalAddr;

use super::ExchangeError;

/// Bytes of a cache line.
const LINE: u64 = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"ARTEXCH1");
/// Words that describe the boxes; the first of them, the magic, is written last.
pub(super) const HEADER_WORDS: usize = 6;
/// Most rows of a step.
pub const MAX_ROWS: usize = 256;
/// Longest name of a region, in bytes.
pub(super) const MAX_NAME: usize = 128;
pub(super) const HELLO_WORDS: usize = 8 + MAX_NAME / 8;
/// Words of a step's header, and of each of its rows.
pub(super) const STEP_WORDS: usize = 2;
pub(super) const ROW_WORDS: usize = 2;
/// Words before the rows of an answer: a status, and a bit for each row that was refused.
pub(super) const ANSWER_WORDS: usize = 1 + MAX_ROWS / 64;

/// Message number 0 of a connection: the client's greeting, and the answer to it.
pub(super) const HELLO: u32 = 0;
/// Message number of a box that is being prepared: nothing to see.
pub(super) const PREPARING: u32 = u32::MAX;
/// Message number of a client's farewell.
pub(super) const BYE: u32 = u32::MAX - 1;

/// The word of message `number` of a connection.
pub(super) fn post(connection: u32, number: u32) -> u64 {
    u64::from(connection) << 32 | u64::from(number)
}

/// Connection and message of a post word.
pub(super) fn unpost(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Sizes of a region's mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeShape {
    /// Clients that the region's executor can have.
    pub num_clients: usize,
    /// Executors that the region's owner can be a client of.
    pub num_links: usize,
    /// Rows of a step at most.
    pub max_rows: usize,
    /// Floats of the widest row of queries, keys and values.
    pub qkv_width: usize,
    /// Floats of the widest output row.
    pub out_width: usize,
}

/// A client's box in the executor's region.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestBox {
    /// Who has it; 0: nobody.
    pub owner: GlobalAddr,
    pub post: GlobalAddr,
    pub hello: GlobalAddr,
    pub step: GlobalAddr,
    pub rows: GlobalAddr,
}

/// An executor's box in the client's region.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerBox {
    pub post: GlobalAddr,
    /// Not 0: the client sleeps on `post`.
    pub asleep: GlobalAddr,
    pub answer: GlobalAddr,
    pub rows: GlobalAddr,
}

/// The words that everybody reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrontWords {
    pub header: GlobalAddr,
    /// Which executor serves here; 0: none.
    pub generation: GlobalAddr,
    /// The executor's process, and when it started.
    pub executor: GlobalAddr,
    /// Changes with every message for the executor.
    pub doorbell: GlobalAddr,
    /// Not 0: the executor sleeps on `doorbell`.
    pub asleep: GlobalAddr,
}

const FRONT_BYTES: u64 = 4 * LINE;

impl ExchangeShape {
    /// Refuses sizes that cannot be.
    pub fn check(&self) -> Result<(), ExchangeError> {
        let widths = [self.qkv_width, self.out_width];
        let fits = (1..=MAX_ROWS).contains(&self.max_rows)
            && self.num_clients <= 1024
            && self.num_links <= 1024
            && widths.iter().all(|width| (1..=1 << 20).contains(width));
        if fits {
            return Ok(());
        }
        Err(ExchangeError::Shape(format!("mailboxes cannot be of {self:?}")))
    }

    fn request_bytes(&self) -> u64 {
        let step = 8 * (STEP_WORDS + ROW_WORDS * self.max_rows) as u64;
        let hello = 8 * HELLO_WORDS as u64;
        LINE + hello.next_multiple_of(LINE) + step.next_multiple_of(LINE) + self.qkv_bytes()
    }

    fn qkv_bytes(&self) -> u64 {
        ((self.max_rows * self.qkv_width) as u64 * 4).next_multiple_of(LINE)
    }

    fn answer_bytes(&self) -> u64 {
        let rows = ((self.max_rows * self.out_width) as u64 * 4).next_multiple_of(LINE);
        LINE + (8 * ANSWER_WORDS as u64).next_multiple_of(LINE) + rows
    }

    /// Bytes of the mailboxes.
    pub fn num_bytes(&self) -> u64 {
        FRONT_BYTES
            + self.num_clients as u64 * self.request_bytes()
            + self.num_links as u64 * self.answer_bytes()
    }

    /// The words at `base`, which are there whatever the shape is.
    pub(super) fn front(base: GlobalAddr) -> FrontWords {
        FrontWords {
            header: base,
            generation: base.add(8 * HEADER_WORDS as u64),
            executor: base.add(LINE),
            doorbell: base.add(2 * LINE),
            asleep: base.add(3 * LINE),
        }
    }

    pub(super) fn request(&self, base: GlobalAddr, client: usize) -> RequestBox {
        let start = base.add(FRONT_BYTES + client as u64 * self.request_bytes());
        let hello = start.add(LINE);
        let step = hello.add((8 * HELLO_WORDS as u64).next_multiple_of(LINE));
        let step_bytes = 8 * (STEP_WORDS + ROW_WORDS * self.max_rows) as u64;
        let rows = step.add(step_bytes.next_multiple_of(LINE));
        RequestBox { owner: start, post: start.add(8), hello, step, rows }
    }

    pub(super) fn answer(&self, base: GlobalAddr, link: usize) -> AnswerBox {
        let requests = self.num_clients as u64 * self.request_bytes();
        AnswerBox::at(base.add(FRONT_BYTES + requests + link as u64 * self.answer_bytes()))
    }

    pub(super) fn to_words(self) -> [u64; HEADER_WORDS] {
        let sizes =
            [self.num_clients, self.num_links, self.max_rows, self.qkv_width, self.out_width];
        let mut words = [MAGIC; HEADER_WORDS];
        for (word, size) in words[1..].iter_mut().zip(sizes) {
            *word = size as u64;
        }
        words
    }

    /// What the words of somebody's mailboxes say.
    pub(super) fn of_words(words: [u64; HEADER_WORDS]) -> Result<ExchangeShape, ExchangeError> {
        if words[0] != MAGIC {
            return Err(ExchangeError::Shape(
                "no mailboxes are there, or another version made them".into(),
            ));
        }
        let sizes = words.map(|word| usize::try_from(word).unwrap_or(usize::MAX));
        let [_, num_clients, num_links, max_rows, qkv_width, out_width] = sizes;
        let shape = ExchangeShape { num_clients, num_links, max_rows, qkv_width, out_width };
        shape.check()?;
        Ok(shape)
    }
}

impl AnswerBox {
    /// The box that begins at `start`.
    pub fn at(start: GlobalAddr) -> AnswerBox {
        let answer = start.add(LINE);
        let rows = answer.add((8 * ANSWER_WORDS as u64).next_multiple_of(LINE));
        AnswerBox { post: start, asleep: start.add(8), answer, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artesian_bus::NodeId;

    #[test]
    fn boxes_do_not_overlap_and_fill_the_bytes() {
        let base = GlobalAddr::new(NodeId(3), 4096);
        for (num_clients, num_links, max_rows, width) in [(1, 1, 1, 1), (3, 2, 7, 50)] {
            let shape =
                ExchangeShape { num_clients, num_links, max_rows, qkv_width: width, out_width: 3 };
            assert_eq!(ExchangeShape::of_words(shape.to_words()), Ok(shape));
            let mut end = ExchangeShape::front(base).asleep.offset() + LINE;
            for client in 0..num_clients {
                let at = shape.request(base, client);
                assert_eq!(at.owner.offset(), end);
                assert!(at.hello.offset() + 8 * HELLO_WORDS as u64 <= at.step.offset());
                let step = 8 * (STEP_WORDS + ROW_WORDS * max_rows) as u64;
                assert!(at.step.offset() + step <= at.rows.offset());
                end = at.rows.offset() + shape.qkv_bytes();
            }
            for link in 0..num_links {
                let at = shape.answer(base, link);
                assert_eq!(at.post.offset(), end);
                assert!(at.answer.offset() + 8 * ANSWER_WORDS as u64 <= at.rows.offset());
                end = at.rows.offset() + (max_rows as u64 * 12).next_multiple_of(LINE);
            }
            assert_eq!(end, base.offset() + shape.num_bytes());
        }
    }

    #[test]
    fn words_of_others_are_checked() {
        let shape =
            ExchangeShape { num_clients: 1, num_links: 1, max_rows: 4, qkv_width: 8, out_width: 8 };
        for word in 0..HEADER_WORDS {
            for wrong in [1 << 40, u64::MAX] {
                let mut words = shape.to_words();
                words[word] = wrong;
                assert!(ExchangeShape::of_words(words).is_err(), "word {word}");
            }
        }
        assert!(ExchangeShape { max_rows: MAX_ROWS + 1, ..shape }.check().is_err());
        assert!(ExchangeShape { out_width: 0, ..shape }.check().is_err());
    }
}
