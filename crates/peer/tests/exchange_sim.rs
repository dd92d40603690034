//! The exchange on the simulated bus: delays, deaths and stops of either side, restarts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use artesian_bus::sim::{report, seeds, Config, Fault, Pid, Rng, SimVerbs, World};
use artesian_bus::{GlobalAddr, Identity, NodeId, Verbs};
use artesian_peer::exchange::{
    format, Client, ConnectOptions, Desk, ExchangeError, ExchangeShape, Far, Mailboxes, Patience,
    RemoteRow, RowSet, Service, Timing,
};

const LAYERS: usize = 3;
const QKV: usize = 5;
const OUT: usize = 3;
const STEPS: usize = 6;
const CLIENTS: usize = 3;
const BYTES: usize = 16 << 10;
const BASE: u64 = 128;
/// Of another model.
const STRANGE: u64 = 8;
const SHAPE: ExchangeShape =
    ExchangeShape { num_clients: 3, num_links: 2, max_rows: 4, qkv_width: QKV, out_width: OUT };

fn base(node: u16) -> GlobalAddr {
    GlobalAddr::new(NodeId(node), BASE)
}

/// What "attention" of these is.
fn attended(row: RemoteRow, place: usize, qkv: &[f32], at: usize) -> f32 {
    let name = row.slot * 31 + row.generation * 7 + row.position * 3;
    qkv[at] + qkv[at + 1] * 3.0 + name as f32 + place as f32 * 1000.0
}

#[derive(Default)]
struct Toy(Vec<Vec<RemoteRow>>);

impl Service for Toy {
    fn num_layers(&self) -> usize {
        LAYERS
    }

    fn widths(&self, place: usize) -> (usize, usize) {
        assert!(place < LAYERS);
        (QKV, OUT)
    }

    fn begin(&mut self, client: usize, rows: &[RemoteRow], refused: &mut RowSet) {
        self.0.resize(self.0.len().max(client + 1), Vec::new());
        self.0[client] = rows.to_vec();
        for (index, row) in rows.iter().enumerate() {
            if row.generation == 0 {
                refused.insert(index);
            }
        }
    }

    fn attend(
        &mut self,
        client: usize,
        place: usize,
        qkv: &[f32],
        out: &mut [f32],
        refused: &mut RowSet,
    ) {
        for (index, &row) in self.0[client].iter().enumerate() {
            for at in 0..OUT {
                let value = attended(row, place, &qkv[index * QKV..], at);
                out[index * OUT + at] = if refused.contains(index) { -1.0 } else { value };
            }
        }
    }

    fn end(&mut self, client: usize) {
        if let Some(rows) = self.0.get_mut(client) {
            rows.clear();
        }
    }
}

/// Who has finished, and what went on.
#[derive(Default)]
struct Notes {
    done: [Cell<bool>; CLIENTS],
    late: Cell<u64>,
    gone: Cell<u64>,
    steps: Cell<u64>,
    dead: Cell<u64>,
    turned_away: Cell<u64>,
}

fn count(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

/// Serves until all clients are done or dead.
fn serve(
    verbs: SimVerbs,
    far: Vec<Vec<SimVerbs>>,
    generation: u64,
    clients: [Identity; CLIENTS],
    patience: Patience,
    notes: &Notes,
) {
    let far = RefCell::new(far);
    let far = std::sync::Mutex::new(far);
    let connect = Box::new(move |name: &str| {
        let nobody = || ExchangeError::Shape(format!("no region {name:?}"));
        let node = name.strip_prefix("client-").and_then(|number| number.parse::<u16>().ok());
        let far = far.lock().unwrap();
        let mut far = far.borrow_mut();
        let known = node.and_then(|node| far.get_mut(node as usize - 1).and_then(Vec::pop));
        let (Some(node), Some(verbs)) = (node, known) else { return Err(nobody()) };
        Ok(Far { verbs, base: base(node), num_bytes: SHAPE.num_bytes() })
    });
    let here = Mailboxes { verbs, base: base(0) };
    let Ok(mut desk) = Desk::open(here, generation, 77, Toy::default(), connect) else { return };
    let is_over = |desk: &Desk<SimVerbs, Toy>| {
        let over = |(client, done): (&Identity, &Cell<bool>)| {
            done.get() || !desk.verbs().is_alive(*client)
        };
        clients.iter().zip(&notes.done).all(over)
    };
    let mut next_sweep = 0;
    while !is_over(&desk) {
        if desk.poll() == 0 {
            let now = desk.verbs().now_ns();
            if now >= next_sweep {
                desk.sweep(50_000);
                next_sweep = now + 200_000;
            }
            desk.wait(now + 100_000, patience, |_| true);
        }
    }
    desk.poll();
    count(&notes.dead, desk.stats().num_dead);
    count(&notes.turned_away, desk.stats().num_turned_away);
}

/// One step; true if it went well, and then all of it was right.
fn step(
    client: &mut Client<SimVerbs>,
    rng: &mut Rng,
    timeout_ns: u64,
    number: usize,
    rows: &[RemoteRow],
) -> Result<(), ExchangeError> {
    client.begin(rows)?;
    for place in 0..LAYERS {
        let qkv: Vec<[f32; QKV]> = (0..rows.len())
            .map(|row| {
                std::array::from_fn(|i| ((number * 17 + place * 5 + row * 3 + i) % 101) as f32)
            })
            .collect();
        let parts: Vec<&[u8]> = qkv.iter().map(as_bytes).collect();
        client.send(&parts)?;
        client.verbs().relax(rng.below(3_000));
        let mut out = vec![[0u8; OUT * 4]; rows.len()];
        let mut views: Vec<&mut [u8]> = out.iter_mut().map(|row| row.as_mut_slice()).collect();
        let timing = Timing::within(client.verbs(), timeout_ns);
        client.receive(&mut views, timing)?;
        let refused = client.refused();
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(refused.contains(&index), row.generation == 0);
            let found = out[index].as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v));
            for (at, found) in found.enumerate().filter(|_| row.generation != 0) {
                let right = attended(*row, place, &qkv[index], at);
                assert_eq!(found, right, "step {number} layer {place} row {index}");
            }
        }
    }
    Ok(())
}

fn as_bytes(row: &[f32; QKV]) -> &[u8] {
    // SAFETY: floats have no padding, and bytes no alignment.
    unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), QKV * 4) }
}

/// Connections of a client's process: to its own region and to the executor's.
type Pair = (SimVerbs, SimVerbs);

/// Runs steps until enough went well.
fn decode(number: u16, mut pairs: Vec<Pair>, seed: u64, patience: Patience, notes: &Notes) {
    let mut rng = Rng::new(seed);
    let region = format!("client-{number}");
    let mut timeout_ns = 100_000 + rng.below(2_000_000);
    let options = ConnectOptions {
        region: &region,
        link: rng.below(2) as usize,
        generation: 0,
        num_layers: LAYERS,
        fingerprint: 77,
        patience,
    };
    let mut left = STEPS;
    let mut client: Option<Client<SimVerbs>> = None;
    while left > 0 {
        let Some(connected) = client.as_mut() else {
            let Some((here, there)) = pairs.pop() else { panic!("too many connections") };
            let timing = Timing::within(&here, timeout_ns);
            // Some processes are slow.
            timeout_ns += timeout_ns / 4;
            let here = Mailboxes { verbs: here, base: base(number) };
            let there = Mailboxes { verbs: there, base: base(0) };
            let (options, wait) = (&options, &pairs[0].0);
            match Client::connect(here, there, options, timing) {
                Ok(connected) => client = Some(connected),
                Err(_) => wait.relax(timeout_ns / 2),
            }
            continue;
        };
        let rows: Vec<RemoteRow> = (0..1 + rng.below(4) as u32)
            .map(|slot| RemoteRow {
                slot,
                generation: u32::from(rng.below(6) > 0),
                position: rng.below(1000) as u32,
            })
            .collect();
        match step(connected, &mut rng, timeout_ns, left, &rows) {
            Ok(()) => {
                left -= 1;
                count(&notes.steps, 1);
                assert!(connected.is_quiet());
            }
            Err(error) => {
                assert!(connected.is_broken() && connected.begin(&rows).is_err(), "{error}");
                count(if error == ExchangeError::Gone { &notes.gone } else { &notes.late }, 1);
                timeout_ns += timeout_ns / 4;
                let timing = Timing::within(connected.verbs(), timeout_ns);
                if connected.reconnect(&options, timing).is_err() {
                    client = None;
                }
            }
        }
    }
    drop(client);
    notes.done[number as usize - 1].set(true);
}

/// One world with the given faults; what went on in it.
fn explore(seed: u64, faults: bool) -> Rc<Notes> {
    let mut config = Config::new(seed, 1 + CLIENTS as u16, BYTES);
    config.max_steps = 400_000;
    let mut world = World::new(&config);
    let mut rng = Rng::new(seed ^ 0x5eed);
    let maker = world.process();
    for node in 0..=CLIENTS as u16 {
        format(&world.verbs(maker), base(node), BYTES as u64 - BASE, SHAPE).unwrap();
    }
    let executors = [world.process(), world.process()];
    let clients: [Pid; CLIENTS] = std::array::from_fn(|_| world.process());
    let identities = clients.map(|pid| Identity { pid: pid.0, started: 0 });
    let notes = Rc::new(Notes::default());
    let patience = || Patience { spin_ns: 2_000, yield_ns: 10_000 };
    for (index, &pid) in executors.iter().enumerate() {
        let many = |_| (0..40).map(|_| world.verbs(pid)).collect();
        let far: Vec<Vec<SimVerbs>> = (0..CLIENTS).map(many).collect();
        let verbs = world.verbs(pid);
        let first = Identity { pid: executors[0].0, started: 0 };
        let (notes, patience) =
            (Rc::clone(&notes), if rng.below(2) == 0 { patience() } else { Patience::NONE });
        world.spawn(pid, move || {
            // The second takes over when the first has died.
            while index == 1 && verbs.is_alive(first) {
                if notes
                    .done
                    .iter()
                    .zip(&identities)
                    .all(|(done, id)| done.get() || !verbs.is_alive(*id))
                {
                    return;
                }
                verbs.relax(100_000);
            }
            serve(verbs, far, 10 + index as u64, identities, patience, &notes);
        });
    }
    for (index, &pid) in clients.iter().enumerate() {
        let pairs = (0..60).map(|_| (world.verbs(pid), world.verbs(pid))).collect();
        let (notes, seed) = (Rc::clone(&notes), rng.word());
        let patience = if rng.below(2) == 0 { patience() } else { Patience::NONE };
        world.spawn(pid, move || decode(index as u16 + 1, pairs, seed, patience, &notes));
    }
    if faults {
        plan(&mut world, &mut rng, executors[0], &clients);
    }
    world.run();
    for (done, &pid) in notes.done.iter().zip(&clients) {
        assert!(done.get() || !world.is_alive(pid), "seed {seed}: a client did not finish");
    }
    notes
}

fn plan(world: &mut World, rng: &mut Rng, executor: Pid, clients: &[Pid; CLIENTS]) {
    let torn = rng.below(2) == 0;
    if rng.below(2) == 0 {
        world.plan(Fault::Kill { process: executor, after: rng.below(300), torn });
    }
    if rng.below(2) == 0 {
        let ns = 100_000 + rng.below(5_000_000);
        world.plan(Fault::Freeze { process: executor, after: rng.below(200), ns });
    }
    for &process in &clients[..2] {
        match rng.below(3) {
            0 => world.plan(Fault::Kill { process, after: rng.below(200), torn }),
            1 => {
                let ns = 100_000 + rng.below(5_000_000);
                world.plan(Fault::Freeze { process, after: rng.below(200), ns });
            }
            _ => {}
        }
    }
}

#[test]
fn without_faults_every_answer_is_right() {
    for seed in seeds(0..60) {
        assert_eq!(explore(seed, false).steps.get(), (STEPS * CLIENTS) as u64);
    }
}

fn with_faults(range: std::ops::Range<u64>) {
    let (mut steps, mut late, mut gone, mut dead, mut turned_away) = (0, 0, 0, 0, 0);
    for seed in seeds(range.clone()) {
        let notes = explore(seed, true);
        steps += notes.steps.get();
        late += notes.late.get();
        gone += notes.gone.get();
        dead += notes.dead.get();
        turned_away += notes.turned_away.get();
    }
    report(seeds(range).len() as u64, steps);
    assert!(late > 0 && gone > 0 && dead > 0, "{late} late, {gone} gone, {dead} dead");
    assert_eq!(turned_away, 0);
}

#[test]
fn under_faults_no_answer_is_wrong_and_nobody_waits_for_ever() {
    with_faults(0..300);
}

#[test]
#[ignore = "long"]
fn under_many_faults_no_answer_is_wrong_and_nobody_waits_for_ever() {
    with_faults(1_000..40_000);
}

/// Writes whatever it likes to the third client's box and to the executor's other words.
fn scribble(verbs: &SimVerbs, rng: &mut Rng, request: GlobalAddr, bytes: u64) {
    for _ in 0..200 {
        let numbers = [0, 1, 2, 3, u64::from(u32::MAX), u64::from(u32::MAX) - 1, rng.word() >> 40];
        let word = (rng.below(3) << 32) | numbers[rng.below(7) as usize];
        let word = if rng.below(4) == 0 { rng.word() } else { word };
        // Mostly the post word and the words of greeting and step.
        let at = if rng.below(2) == 0 { 8 } else { 8 * rng.below(bytes / 8) };
        let _ = verbs.batch(&mut [artesian_bus::Verb::write(request.add(at), &word.to_le_bytes())]);
        verbs.relax(rng.below(20_000));
    }
}

#[test]
fn nonsense_in_a_box_harms_no_other_client() {
    for seed in seeds(0..60) {
        let mut config = Config::new(seed, 3, BYTES);
        config.max_steps = 400_000;
        let mut world = World::new(&config);
        let mut rng = Rng::new(seed ^ 0xbad);
        let (executor, client, vandal) = (world.process(), world.process(), world.process());
        for node in 0..3 {
            format(&world.verbs(executor), base(node), BYTES as u64 - BASE, SHAPE).unwrap();
        }
        let notes = Rc::new(Notes::default());
        notes.done[1].set(true);
        notes.done[2].set(true);
        let identities = [Identity { pid: client.0, started: 0 }; CLIENTS];
        let many = |_| (0..90).map(|_| world.verbs(executor)).collect();
        let far: Vec<Vec<SimVerbs>> = (0..2).map(many).collect();
        let (verbs, noted) = (world.verbs(executor), Rc::clone(&notes));
        world.spawn(executor, move || serve(verbs, far, 10, identities, Patience::NONE, &noted));
        let pairs = (0..60).map(|_| (world.verbs(client), world.verbs(client))).collect();
        let (noted, chance) = (Rc::clone(&notes), rng.word());
        world.spawn(client, move || decode(1, pairs, chance, Patience::NONE, &noted));
        let verbs = world.verbs(vandal);
        // The last box lies behind all that fewer clients need, but for the answers.
        let of =
            |num_clients, num_links| ExchangeShape { num_clients, num_links, ..SHAPE }.num_bytes();
        let box_bytes = of(3, 0) - of(2, 0);
        let request = base(0).add(of(2, 0));
        world.spawn(vandal, move || scribble(&verbs, &mut rng, request, box_bytes));
        world.run();
        assert!(notes.done[0].get(), "seed {seed}");
        assert_eq!(notes.steps.get(), STEPS as u64);
    }
}

#[test]
fn strangers_and_crowds_are_turned_away() {
    let mut world = World::new(&Config::new(1, 2, BYTES));
    let pid = world.process();
    for node in 0..2 {
        format(&world.verbs(pid), base(node), BYTES as u64 - BASE, SHAPE).unwrap();
    }
    let there = world.verbs(pid);
    let connect = |here: SimVerbs, there: SimVerbs, generation: u64, fingerprint: u64| {
        let options = ConnectOptions {
            region: "client-1",
            link: 1,
            generation,
            num_layers: LAYERS,
            fingerprint,
            patience: Patience::NONE,
        };
        let timing = Timing::within(&here, 2_000_000);
        let here = Mailboxes { verbs: here, base: base(1) };
        Client::connect(here, Mailboxes { verbs: there, base: base(0) }, &options, timing)
    };
    // Nobody serves there yet.
    let refused = connect(world.verbs(pid), world.verbs(pid), 5, 77).err();
    assert_eq!(refused, Some(ExchangeError::Generation { found: 0, wanted: 5 }));
    let far: Vec<SimVerbs> = (0..20).map(|_| world.verbs(pid)).collect();
    let identity = there.identity();
    let client = world.process();
    let notes = Rc::new(Notes::default());
    let noted = Rc::clone(&notes);
    let identities = [Identity { pid: client.0, ..identity }; CLIENTS];
    world.spawn(pid, move || serve(there, vec![far], 5, identities, Patience::NONE, &noted));
    let verbs: Vec<Pair> = (0..8).map(|_| (world.verbs(client), world.verbs(client))).collect();
    world.spawn(client, move || {
        let mut verbs = verbs.into_iter();
        let mut next = |generation, fingerprint| {
            let (here, there) = verbs.next().unwrap();
            here.relax(100_000);
            connect(here, there, generation, fingerprint)
        };
        assert!(matches!(next(4, 77), Err(ExchangeError::Generation { found: 5, wanted: 4 })));
        assert!(matches!(next(5, STRANGE), Err(ExchangeError::Shape(_))));
        let kept = [next(5, 77).unwrap(), next(0, 77).unwrap(), next(5, 77).unwrap()];
        assert!(matches!(next(5, 77), Err(ExchangeError::Full(3))));
        drop(kept);
        let mut client = next(5, 77).unwrap();
        assert!(matches!(client.begin(&[]), Err(ExchangeError::Shape(_))));
        assert!(client.is_broken());
    });
    world.run();
    assert_eq!(notes.turned_away.get(), 1);
}
