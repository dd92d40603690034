//! The side that attends: looks through its clients' boxes and answers what has come.

use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

use super::client::{claimed_by, Mailboxes};
use super::layout::{
    post, unpost, AnswerBox, RequestBox, ANSWER_WORDS, BYE, HELLO, HELLO_WORDS, MAX_NAME, MAX_ROWS,
    PREPARING, ROW_WORDS, STEP_WORDS,
};
use super::wait::Bell;
use super::{read_shape, read_words, ExchangeError, ExchangeShape, Patience, RemoteRow, RowSet};

/// Messages that a client can have written without an answer: a step's name and its first rows.
const MOST_AHEAD: u32 = 2;

/// What attends.
pub trait Service {
    /// Attention layers of a step.
    fn num_layers(&self) -> usize;

    /// Floats of a row of queries, keys and values, and of an output row, of the layer at `place`.
    fn widths(&self, place: usize) -> (usize, usize);

    /// Prepares a step of the client with that number; adds to `refused` what it will not serve.
    fn begin(&mut self, client: usize, rows: &[RemoteRow], refused: &mut RowSet);

    /// Computes the output rows of a layer; those of `refused`, to which it may add, are arbitrary.
    fn attend(
        &mut self,
        client: usize,
        place: usize,
        qkv: &[f32],
        out: &mut [f32],
        refused: &mut RowSet,
    );

    /// Forgets a client.
    fn end(&mut self, client: usize);
}

/// A client's region, as the executor reaches it.
pub struct Far<V> {
    /// A connection to it.
    pub verbs: V,
    /// Its mailboxes.
    pub base: GlobalAddr,
    /// Bytes of its mailboxes.
    pub num_bytes: u64,
}

/// Finds the region of a name.
pub type Connector<V> = Box<dyn FnMut(&str) -> Result<Far<V>, ExchangeError> + Send>;

/// What an executor has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskStats {
    /// Clients connected now.
    pub num_clients: u64,
    /// Steps that were named.
    pub num_steps: u64,
    /// Layers that were answered.
    pub num_answers: u64,
    /// Rows of them.
    pub num_rows: u64,
    /// Rows of steps that were refused.
    pub num_refused: u64,
    /// Connections that a client gave up in the middle of a step: an answer came too late.
    pub num_late: u64,
    /// Clients that died.
    pub num_dead: u64,
    /// Greetings that could not be answered.
    pub num_turned_away: u64,
}

/// A connected client.
struct Served<V> {
    far: V,
    answer: AnswerBox,
    connection: u32,
    /// Messages that were dealt with.
    done: u32,
    num_rows: usize,
    /// Layers of the step that were answered; all: the next message names a step.
    layers_done: usize,
    refused: RowSet,
    last_ns: u64,
}

/// The mailboxes of an executor. Its thread calls [`Desk::poll`], and waits by [`Desk::wait`] when
/// there was nothing.
pub struct Desk<V: Verbs, S: Service> {
    here: Mailboxes<V>,
    shape: ExchangeShape,
    generation: u64,
    fingerprint: u64,
    service: S,
    connect: Connector<V>,
    clients: Vec<Option<Served<V>>>,
    seen: Vec<u64>,
    qkv: Vec<f32>,
    out: Vec<f32>,
    doorbell: u64,
    stats: DeskStats,
}

impl<V: Verbs, S: Service> Desk<V, S> {
    /// Opens the mailboxes of the own region for clients. `generation`, not 0, is another one than
    /// that of every earlier executor of the region.
    ///
    /// # Errors
    /// For mailboxes that are too small for the service, and where the bus refuses.
    pub fn open(
        here: Mailboxes<V>,
        generation: u64,
        fingerprint: u64,
        service: S,
        connect: Connector<V>,
    ) -> Result<Desk<V, S>, ExchangeError> {
        let shape = read_shape(&here.verbs, here.base)?;
        for place in 0..service.num_layers() {
            let (qkv, out) = service.widths(place);
            if qkv > shape.qkv_width || out > shape.out_width {
                return Err(ExchangeError::Shape(format!(
                    "rows of {qkv} and {out} floats in mailboxes of {shape:?}"
                )));
            }
        }
        let front = ExchangeShape::front(here.base);
        let own = here.verbs.identity();
        let words = [u64::from(own.pid), own.started].map(u64::to_le_bytes);
        here.verbs.batch(&mut [
            Verb::write(front.executor, words.as_flattened()),
            Verb::write(front.generation, &generation.to_le_bytes()),
        ])?;
        Ok(Desk {
            clients: (0..shape.num_clients).map(|_| None).collect(),
            seen: vec![post(0, PREPARING); shape.num_clients],
            qkv: vec![0.0; shape.max_rows * shape.qkv_width],
            out: vec![0.0; shape.max_rows * shape.out_width],
            doorbell: 0,
            stats: DeskStats::default(),
            here,
            shape,
            generation,
            fingerprint,
            service,
            connect,
        })
    }

    fn request(&self, client: usize) -> RequestBox {
        self.shape.request(self.here.base, client)
    }

    /// Deals with all that has come; how many messages that were.
    pub fn poll(&mut self) -> usize {
        let front = ExchangeShape::front(self.here.base);
        self.doorbell = self.here.verbs.mailbox(front.doorbell);
        let mut num = 0;
        for client in 0..self.clients.len() {
            let word = self.here.verbs.mailbox(self.request(client).post);
            if word == self.seen[client] {
                continue;
            }
            match self.serve(client, word) {
                Ok(dealt) => {
                    num += dealt;
                    self.seen[client] = word;
                }
                // Its memory is gone, or it says what cannot be: it will connect again, or not.
                Err(_) => {
                    self.drop_client(client);
                    self.seen[client] = word;
                }
            }
        }
        num
    }

    /// Waits until something may have come, `until_ns` has come, or `go_on` says no; see
    /// [`Patience`].
    pub fn wait(&self, until_ns: u64, patience: Patience, go_on: impl FnMut(bool) -> bool) {
        let front = ExchangeShape::front(self.here.base);
        let bell = Bell { word: front.doorbell, asleep: front.asleep };
        bell.wait(&self.here.verbs, self.doorbell, until_ns, patience, go_on);
    }

    fn serve(&mut self, client: usize, word: u64) -> Result<usize, ExchangeError> {
        let (connection, number) = unpost(word);
        match number {
            PREPARING => return Ok(0),
            BYE => {
                self.free_box(client)?;
                return Ok(1);
            }
            HELLO => return self.greet(client, connection, word),
            _ => {}
        }
        let mut num = 0;
        loop {
            let Some(served) = self.clients[client].as_mut() else { return Ok(num) };
            if served.connection != connection || served.done >= number {
                return Ok(num);
            }
            if number - served.done > MOST_AHEAD {
                return Err(ExchangeError::Broken);
            }
            served.done += 1;
            served.last_ns = self.here.verbs.now_ns();
            if served.layers_done == self.service.num_layers() {
                self.begin(client)?;
            } else {
                self.attend(client)?;
            }
            num += 1;
        }
    }

    fn greet(&mut self, client: usize, connection: u32, word: u64) -> Result<usize, ExchangeError> {
        let request = self.request(client);
        let words = read_words::<HELLO_WORDS, V>(&self.here.verbs, request.hello)?;
        if self.here.verbs.mailbox(request.post) != word || words[0] != u64::from(connection) {
            return Ok(0); // it is being written anew, and will be posted again
        }
        self.drop_client(client);
        self.stats.num_turned_away += 1;
        let [_, node, offset, max_rows, out_width, num_layers, fingerprint, len, ..] = words;
        let bytes = words[8..].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let name = usize::try_from(len).ok().filter(|&len| len <= MAX_NAME);
        let name = name.and_then(|len| std::str::from_utf8(&bytes[..len]).ok());
        let Some(name) = name else { return Ok(1) };
        let Far { verbs: far, base, num_bytes } = (self.connect)(name)?;
        // The box must lie in the client's mailboxes with all that is ever written to it.
        let start = GlobalAddr::new(NodeId(node as u16), offset);
        let answer = AnswerBox::at(start);
        let rows = max_rows.min(MAX_ROWS as u64) * out_width.min(1 << 20) * 4;
        let end = answer.rows.offset() + rows;
        let inside = base.node() == start.node()
            && offset.is_multiple_of(64)
            && (base.offset()..base.offset() + num_bytes).contains(&offset)
            && end <= base.offset() + num_bytes
            && max_rows <= self.shape.max_rows as u64
            && out_width <= self.shape.out_width as u64;
        if !inside {
            return Ok(1);
        }
        let fits = num_layers == self.service.num_layers() as u64
            && fingerprint == self.fingerprint
            && (0..self.service.num_layers())
                .all(|place| self.service.widths(place).1 as u64 <= out_width);
        let served = Served {
            far,
            answer,
            connection,
            done: HELLO,
            num_rows: 0,
            layers_done: self.service.num_layers(),
            refused: RowSet::default(),
            last_ns: self.here.verbs.now_ns(),
        };
        let status = if fits { self.generation } else { 0 };
        served.post(HELLO, &[&status.to_le_bytes()])?;
        if fits {
            self.stats.num_turned_away -= 1;
            self.stats.num_clients += 1;
            self.clients[client] = Some(served);
        }
        Ok(1)
    }

    /// A message that names a step.
    fn begin(&mut self, client: usize) -> Result<(), ExchangeError> {
        let request = self.request(client);
        let served = self.clients[client].as_mut().expect("it was served until now");
        let mut words = [[0; 8]; STEP_WORDS + ROW_WORDS * MAX_ROWS];
        let used = STEP_WORDS + ROW_WORDS * self.shape.max_rows;
        self.here.verbs.batch(&mut [Verb::read(request.step, words[..used].as_flattened_mut())])?;
        let words = words.map(u64::from_le_bytes);
        let num_rows = usize::try_from(words[1]).unwrap_or(usize::MAX);
        if words[0] != u64::from(served.done) || !(1..=self.shape.max_rows).contains(&num_rows) {
            return Err(ExchangeError::Broken);
        }
        let rows: Vec<RemoteRow> = words[STEP_WORDS..]
            .as_chunks()
            .0
            .iter()
            .take(num_rows)
            .map(|&words| RemoteRow::of_words(words))
            .collect();
        served.num_rows = num_rows;
        served.layers_done = 0;
        served.refused = RowSet::default();
        self.service.begin(client, &rows, &mut served.refused);
        self.stats.num_steps += 1;
        self.stats.num_refused += served.refused.rows(num_rows).len() as u64;
        Ok(())
    }

    /// A message of a layer's rows.
    fn attend(&mut self, client: usize) -> Result<(), ExchangeError> {
        let request = self.request(client);
        let served = self.clients[client].as_mut().expect("it was served until now");
        let place = served.layers_done;
        let (qkv_width, out_width) = self.service.widths(place);
        let qkv = &mut self.qkv[..served.num_rows * qkv_width];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(qkv);
        self.here.verbs.batch(&mut [Verb::read(request.rows, bytes)])?;
        let out = &mut self.out[..served.num_rows * out_width];
        self.service.attend(client, place, qkv, out, &mut served.refused);
        served.layers_done += 1;
        let mut words = [[0; 8]; ANSWER_WORDS];
        for (word, refused) in words[1..].iter_mut().zip(served.refused.0) {
            *word = refused.to_le_bytes();
        }
        words[0] = self.generation.to_le_bytes();
        let padding = served.answer.rows.offset() - served.answer.answer.offset();
        let padding = &[0; 64][..padding as usize - 8 * ANSWER_WORDS];
        let number = served.done;
        served.post(number, &[words.as_flattened(), padding, bytemuck::cast_slice(out)])?;
        self.stats.num_answers += 1;
        self.stats.num_rows += served.num_rows as u64;
        Ok(())
    }

    /// Looks after clients that have said nothing for `quiet_ns`: those that have died lose their
    /// boxes. Says which clients' boxes were freed.
    pub fn sweep(&mut self, quiet_ns: u64) -> Vec<usize> {
        let now = self.here.verbs.now_ns();
        let mut dead = Vec::new();
        for client in 0..self.clients.len() {
            let is_quiet = self.clients[client]
                .as_ref()
                .is_none_or(|served| now.saturating_sub(served.last_ns) >= quiet_ns);
            if !is_quiet {
                continue;
            }
            let owner = read_words::<1, V>(&self.here.verbs, self.request(client).owner);
            let Ok([owner]) = owner else { continue };
            if owner != 0 && !self.here.verbs.is_alive(claimed_by(owner)) {
                self.stats.num_dead += 1;
                let _ = self.free_box(client);
                dead.push(client);
            }
        }
        dead
    }

    fn drop_client(&mut self, client: usize) {
        if let Some(served) = self.clients[client].take() {
            self.stats.num_clients -= 1;
            self.stats.num_late +=
                u64::from(served.layers_done > 0 && served.layers_done < self.service.num_layers());
            self.service.end(client);
        }
    }

    /// Lets others have a client's box. Nobody writes to it any more: its owner said so, or died.
    fn free_box(&mut self, client: usize) -> Result<(), ExchangeError> {
        self.drop_client(client);
        let request = self.request(client);
        let [word] = read_words(&self.here.verbs, request.post)?;
        // The next owner counts connections on.
        let idle = post(unpost(word).0, PREPARING).to_le_bytes();
        self.here
            .verbs
            .batch(&mut [Verb::write(request.post, &idle), Verb::write(request.owner, &[0; 8])])?;
        Ok(())
    }

    /// What was counted so far.
    pub fn stats(&self) -> DeskStats {
        self.stats
    }

    /// What attends.
    pub fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// A connection to the own mailboxes, for its clock.
    pub fn verbs(&self) -> &V {
        &self.here.verbs
    }
}

impl<V: Verbs, S: Service> Drop for Desk<V, S> {
    fn drop(&mut self) {
        let front = ExchangeShape::front(self.here.base);
        let _ = self.here.verbs.batch(&mut [Verb::write(front.generation, &[0; 8])]);
        // Those that wait for an answer look whether the executor is still there.
        for served in self.clients.iter().flatten() {
            served.far.wake_mailbox(served.answer.post);
        }
    }
}

impl<V: Verbs> Served<V> {
    /// Writes an answer, then its post word; wakes the client if it must.
    fn post(&self, number: u32, parts: &[&[u8]]) -> Result<(), ExchangeError> {
        let word = post(self.connection, number).to_le_bytes();
        let mut asleep = [0; 8];
        self.far.batch(&mut [
            Verb::Gather { addr: self.answer.answer, parts },
            Verb::write(self.answer.post, &word),
            Verb::read(self.answer.asleep, &mut asleep),
        ])?;
        if asleep != [0; 8] {
            self.far.wake_mailbox(self.answer.post);
        }
        Ok(())
    }
}
