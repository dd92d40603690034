//! The side that decodes.

use artesian_bus::{GlobalAddr, Identity, Verb, Verbs};

use super::layout::{
    post, unpost, AnswerBox, FrontWords, RequestBox, ANSWER_WORDS, BYE, HELLO, HELLO_WORDS,
    MAX_NAME, MAX_ROWS, PREPARING, STEP_WORDS,
};
use super::wait::Bell;
use super::{read_shape, read_words, ExchangeError, ExchangeShape, Patience, RemoteRow, RowSet};

/// Mailboxes of a region, and a connection to them.
pub struct Mailboxes<V> {
    /// The connection, of one thread.
    pub verbs: V,
    /// Where they begin.
    pub base: GlobalAddr,
}

/// What a client says of itself.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions<'a> {
    /// Region of the client, by whose name the executor finds it.
    pub region: &'a str,
    /// Answer box of the client's region that nobody else uses.
    pub link: usize,
    /// The executor that is meant; 0: whichever serves there.
    pub generation: u64,
    /// Attention layers of the client's program.
    pub num_layers: usize,
    /// Of the client's program: peers with another one cannot serve it.
    pub fingerprint: u64,
    /// How to wait for answers.
    pub patience: Patience,
}

/// Until when something is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Nanoseconds of the bus's clock.
    pub until_ns: u64,
    /// How long that is from the beginning on, for messages to people.
    pub timeout_ms: u64,
}

impl Timing {
    /// From now on.
    pub fn within<V: Verbs>(verbs: &V, timeout_ns: u64) -> Timing {
        let until_ns = verbs.now_ns().saturating_add(timeout_ns);
        Timing { until_ns, timeout_ms: timeout_ns / 1_000_000 }
    }
}

/// What a client has counted; all but `round_trip_ns` and `wait_ns` only for what was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Steps begun.
    pub num_steps: u64,
    /// Messages to the executor: one for each step, one for each of its layers.
    pub num_messages: u64,
    /// Rows of queries, keys and values that were answered.
    pub num_rows: u64,
    /// Bytes of messages, both ways.
    pub num_bytes: u64,
    /// From the sending of rows to their answer, over all layers.
    pub round_trip_ns: u64,
    /// Of that, while nothing else was to do.
    pub wait_ns: u64,
    /// Steps that were broken off.
    pub num_failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Every message has its answer.
    Ready,
    /// Rows that were sent, without an answer yet.
    Sent {
        rows: usize,
        at_ns: u64,
    },
    Broken,
}

/// A connection to an executor.
pub struct Client<V: Verbs> {
    here: Mailboxes<V>,
    there: Mailboxes<V>,
    request: RequestBox,
    answer: AnswerBox,
    front: FrontWords,
    shape: ExchangeShape,
    executor: Identity,
    generation: u64,
    connection: u32,
    number: u32,
    state: State,
    /// Of the step: rows, and layers that are still to come.
    num_rows: usize,
    num_layers: usize,
    layers_left: usize,
    refused: RowSet,
    patience: Patience,
    stats: ClientStats,
}

/// The word that says who has a request box.
fn claim(who: Identity) -> u64 {
    u64::from(who.pid) << 40 | who.started & ((1 << 40) - 1)
}

/// Whom a box's word names; what [`claim`] cuts off of a start time takes centuries to reach.
pub(super) fn claimed_by(word: u64) -> Identity {
    Identity { pid: (word >> 40) as u32, started: word & ((1 << 40) - 1) }
}

impl<V: Verbs> Client<V> {
    /// Connects `here`, the own region's mailboxes, with the executor that serves in `there`.
    ///
    /// # Errors
    /// Where there is none, or another one, or it has no room, or does not answer in time.
    pub fn connect(
        here: Mailboxes<V>,
        there: Mailboxes<V>,
        options: &ConnectOptions<'_>,
        timing: Timing,
    ) -> Result<Client<V>, ExchangeError> {
        let own = read_shape(&here.verbs, here.base)?;
        let shape = read_shape(&there.verbs, there.base)?;
        if options.link >= own.num_links || options.region.len() > MAX_NAME {
            return Err(ExchangeError::Shape(format!(
                "link {} of {}, region {:?}",
                options.link, own.num_links, options.region
            )));
        }
        let front = ExchangeShape::front(there.base);
        let [found] = read_words(&there.verbs, front.generation)?;
        if found == 0 || (options.generation != 0 && found != options.generation) {
            return Err(ExchangeError::Generation { found, wanted: options.generation });
        }
        let [pid, started] = read_words(&there.verbs, front.executor)?;
        let box_number = claim_box(&there, &shape)?;
        let mut client = Client {
            request: shape.request(there.base, box_number),
            answer: own.answer(here.base, options.link),
            front,
            executor: Identity { pid: pid as u32, started },
            generation: found,
            shape: ExchangeShape {
                max_rows: shape.max_rows.min(own.max_rows),
                out_width: shape.out_width.min(own.out_width),
                ..shape
            },
            connection: 0,
            number: 0,
            state: State::Broken,
            num_rows: 0,
            num_layers: options.num_layers,
            layers_left: 0,
            refused: RowSet::default(),
            patience: options.patience,
            stats: ClientStats::default(),
            here,
            there,
        };
        client.greet(options, timing)?;
        Ok(client)
    }

    /// Connects again after a failure, to the same executor.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn reconnect(
        &mut self,
        options: &ConnectOptions<'_>,
        timing: Timing,
    ) -> Result<(), ExchangeError> {
        let [found] = read_words(&self.there.verbs, self.front.generation)?;
        if found != self.generation {
            return Err(ExchangeError::Generation { found, wanted: self.generation });
        }
        self.greet(options, timing)
    }

    fn greet(&mut self, options: &ConnectOptions<'_>, timing: Timing) -> Result<(), ExchangeError> {
        self.state = State::Broken;
        let [word] = read_words(&self.there.verbs, self.request.post)?;
        let next = unpost(word).0.max(self.connection).wrapping_add(1);
        self.connection = next.max(1);
        self.number = HELLO;
        let mut hello = [0; HELLO_WORDS];
        let at = self.answer.post;
        hello[..8].copy_from_slice(&[
            u64::from(self.connection),
            u64::from(at.node().0),
            at.offset(),
            self.shape.max_rows as u64,
            self.shape.out_width as u64,
            options.num_layers as u64,
            options.fingerprint,
            options.region.len() as u64,
        ]);
        let mut bytes = hello.map(u64::to_le_bytes);
        bytes[8..].as_flattened_mut()[..options.region.len()]
            .copy_from_slice(options.region.as_bytes());
        self.here.verbs.batch(&mut [Verb::write(self.answer.post, &[0; 8])])?;
        // An executor that is reading a greeting, or begins to, sees that it changes.
        let preparing = post(self.connection, PREPARING).to_le_bytes();
        self.there.verbs.batch(&mut [Verb::write(self.request.post, &preparing)])?;
        self.ring(self.request.hello, &[bytes.as_flattened()], HELLO)?;
        self.wait_for(HELLO, timing)?;
        let [status] = read_words(&self.here.verbs, self.answer.answer)?;
        if status != self.generation {
            return Err(ExchangeError::Shape(
                "the executor serves another model, or one in another form: run the same with the \
                 same settings"
                    .into(),
            ));
        }
        self.state = State::Ready;
        self.layers_left = 0;
        Ok(())
    }

    /// Writes `parts` to `place`, then the post word of `number`; wakes the executor if it must.
    fn ring(
        &mut self,
        place: GlobalAddr,
        parts: &[&[u8]],
        number: u32,
    ) -> Result<(), ExchangeError> {
        let word = post(self.connection, number).to_le_bytes();
        let mut asleep = [0; 8];
        let mut verbs = [
            Verb::Gather { addr: place, parts },
            Verb::write(self.request.post, &word),
            Verb::faa(self.front.doorbell, 1),
            Verb::read(self.front.asleep, &mut asleep),
        ];
        self.there.verbs.batch(&mut verbs)?;
        if asleep != [0; 8] {
            self.there.verbs.wake_mailbox(self.front.doorbell);
        }
        self.number = number;
        Ok(())
    }

    /// Waits for the answer to message `number`.
    fn wait_for(&self, number: u32, timing: Timing) -> Result<(), ExchangeError> {
        let wanted = post(self.connection, number);
        let bell = Bell { word: self.answer.post, asleep: self.answer.asleep };
        let (verbs, there) = (&self.here.verbs, &self.there.verbs);
        let mut seen = verbs.mailbox(bell.word);
        let mut is_gone = false;
        while seen != wanted {
            let go_on = |sleeps: bool| {
                is_gone = sleeps && !self.is_there(there);
                !is_gone
            };
            let word = bell.wait(verbs, seen, timing.until_ns, self.patience, go_on);
            if word == wanted {
                break;
            }
            if is_gone {
                return Err(ExchangeError::Gone);
            }
            if verbs.now_ns() >= timing.until_ns {
                return Err(ExchangeError::Late(timing.timeout_ms));
            }
            seen = word;
        }
        Ok(())
    }

    /// Whether the executor still serves.
    fn is_there(&self, there: &V) -> bool {
        let found = read_words::<1, V>(there, self.front.generation);
        found == Ok([self.generation]) && there.is_alive(self.executor)
    }

    /// Names the rows of the next step. Waits for nothing.
    ///
    /// # Errors
    /// Then the connection is broken: no step can be run before [`Client::reconnect`].
    pub fn begin(&mut self, rows: &[RemoteRow]) -> Result<(), ExchangeError> {
        let result = self.try_begin(rows);
        self.keep(result)
    }

    fn try_begin(&mut self, rows: &[RemoteRow]) -> Result<(), ExchangeError> {
        if self.state != State::Ready || self.layers_left != 0 {
            return Err(ExchangeError::Broken);
        }
        if rows.is_empty() || rows.len() > self.shape.max_rows {
            return Err(ExchangeError::Shape(format!(
                "a step has 1 to {} remote rows, not {}",
                self.shape.max_rows,
                rows.len()
            )));
        }
        let number = self.next_number()?;
        let mut words = [[0; 8]; STEP_WORDS + 2 * MAX_ROWS];
        words[0] = u64::from(number).to_le_bytes();
        words[1] = (rows.len() as u64).to_le_bytes();
        for (place, row) in words[STEP_WORDS..].chunks_exact_mut(2).zip(rows) {
            place.copy_from_slice(&row.to_words().map(u64::to_le_bytes));
        }
        (self.num_rows, self.layers_left) = (rows.len(), self.num_layers);
        self.refused = RowSet::default();
        let words = words[..STEP_WORDS + 2 * rows.len()].as_flattened();
        self.ring(self.request.step, &[words], number)?;
        self.stats.num_steps += 1;
        self.stats.num_messages += 1;
        self.stats.num_bytes += words.len() as u64;
        Ok(())
    }

    fn next_number(&self) -> Result<u32, ExchangeError> {
        // After billions of messages the client connects anew.
        let next = self.number.checked_add(1).filter(|&next| next < BYE - 1);
        next.ok_or(ExchangeError::Broken)
    }

    /// Sends the rows of the step's next layer. Waits for nothing.
    ///
    /// # Errors
    /// As for [`Client::begin`].
    pub fn send(&mut self, rows: &[&[u8]]) -> Result<(), ExchangeError> {
        let result = self.try_send(rows);
        self.keep(result)
    }

    fn try_send(&mut self, rows: &[&[u8]]) -> Result<(), ExchangeError> {
        if self.state != State::Ready || self.layers_left == 0 {
            return Err(ExchangeError::Broken);
        }
        let bytes: usize = rows.iter().map(|row| row.len()).sum();
        if rows.len() != self.num_rows || bytes > self.num_rows * self.shape.qkv_width * 4 {
            return Err(ExchangeError::Shape(format!(
                "{} rows of {bytes} bytes in a step of {}",
                rows.len(),
                self.num_rows
            )));
        }
        let number = self.next_number()?;
        self.layers_left -= 1;
        let at_ns = self.here.verbs.now_ns();
        self.ring(self.request.rows, rows, number)?;
        self.state = State::Sent { rows: rows.len(), at_ns };
        self.stats.num_messages += 1;
        self.stats.num_bytes += bytes as u64;
        Ok(())
    }

    /// Waits for the output rows of the layer that was sent last.
    ///
    /// # Errors
    /// As for [`Client::begin`]; the rows are arbitrary then.
    pub fn receive(&mut self, rows: &mut [&mut [u8]], timing: Timing) -> Result<(), ExchangeError> {
        let result = self.try_receive(rows, timing);
        self.keep(result)
    }

    fn try_receive(&mut self, rows: &mut [&mut [u8]], timing: Timing) -> Result<(), ExchangeError> {
        let State::Sent { rows: sent, at_ns } = self.state else {
            return Err(ExchangeError::Broken);
        };
        let bytes: usize = rows.iter().map(|row| row.len()).sum();
        if sent != rows.len() || bytes > self.shape.max_rows * self.shape.out_width * 4 {
            return Err(ExchangeError::Shape(format!(
                "{} output rows of {bytes} bytes for {sent} rows",
                rows.len()
            )));
        }
        let wait_from = self.here.verbs.now_ns();
        self.wait_for(self.number, timing)?;
        let now = self.here.verbs.now_ns();
        let mut refused = [[0; 8]; ANSWER_WORDS];
        let mut verbs = Vec::with_capacity(rows.len() + 1);
        verbs.push(Verb::read(self.answer.answer, refused.as_flattened_mut()));
        let mut at = self.answer.rows;
        for row in rows {
            let len = row.len() as u64;
            verbs.push(Verb::read(at, row));
            at = at.add(len);
        }
        self.here.verbs.batch(&mut verbs)?;
        drop(verbs);
        if u64::from_le_bytes(refused[0]) != self.generation {
            return Err(ExchangeError::Gone); // another executor took the boxes over
        }
        for (word, more) in self.refused.0.iter_mut().zip(&refused[1..]) {
            *word |= u64::from_le_bytes(*more);
        }
        self.state = State::Ready;
        self.stats.num_rows += sent as u64;
        self.stats.num_bytes += bytes as u64;
        self.stats.round_trip_ns += now.saturating_sub(at_ns);
        self.stats.wait_ns += now.saturating_sub(wait_from);
        Ok(())
    }

    fn keep<T>(&mut self, result: Result<T, ExchangeError>) -> Result<T, ExchangeError> {
        if result.is_err() {
            self.stats.num_failures += u64::from(self.state != State::Broken);
            self.state = State::Broken;
        }
        result
    }

    /// Rows of the step that the executor would not serve, as far as answers have come.
    pub fn refused(&self) -> Vec<usize> {
        self.refused.rows(self.num_rows)
    }

    /// Whether a step failed, so that the client must connect again.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether the executor has read and answered all that was sent, so that nothing more of it
    /// will be written to the answer box.
    pub fn is_quiet(&self) -> bool {
        self.state == State::Ready && self.layers_left == 0
    }

    /// Gives a step up of which no rows were sent, or not all.
    pub fn abandon(&mut self) {
        if self.layers_left > 0 || matches!(self.state, State::Sent { .. }) {
            self.state = State::Broken;
        }
    }

    /// Whether the executor, as far as can be seen, still serves.
    pub fn is_alive(&self) -> bool {
        self.is_there(&self.there.verbs)
    }

    /// Rows of a step at most.
    pub fn max_rows(&self) -> usize {
        self.shape.max_rows
    }

    /// A connection to the own mailboxes, for its clock.
    pub fn verbs(&self) -> &V {
        &self.here.verbs
    }

    /// What was counted so far.
    pub fn stats(&self) -> ClientStats {
        self.stats
    }
}

impl<V: Verbs> Drop for Client<V> {
    fn drop(&mut self) {
        let word = post(self.connection, BYE).to_le_bytes();
        let mut asleep = [0; 8];
        let told = self.there.verbs.batch(&mut [
            Verb::write(self.request.post, &word),
            Verb::faa(self.front.doorbell, 1),
            Verb::read(self.front.asleep, &mut asleep),
        ]);
        if told.is_ok() && asleep != [0; 8] {
            self.there.verbs.wake_mailbox(self.front.doorbell);
        }
    }
}

/// Takes a request box that nobody has.
fn claim_box<V: Verbs>(
    there: &Mailboxes<V>,
    shape: &ExchangeShape,
) -> Result<usize, ExchangeError> {
    let own = claim(there.verbs.identity());
    for number in 0..shape.num_clients {
        let mut swap = [Verb::cas(shape.request(there.base, number).owner, 0, own)];
        there.verbs.batch(&mut swap)?;
        if swap[0].found() == 0 {
            return Ok(number);
        }
    }
    Err(ExchangeError::Full(shape.num_clients))
}
