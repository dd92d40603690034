//! One case of the matrix, as a line of text that runs it again.

use std::fmt;
use std::str::FromStr;

use artesian_bus::sim::Rng;
use artesian_bus::NodeId;

use super::case::Case;
use super::fuse::{Blow, Charge};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The client is killed.
    Kill,
    /// The client is stopped for longer than its lease, or let go on after `more` milliseconds.
    Stop,
    /// A memory node is lost.
    Node,
    /// A memory node is lost, and the client with it.
    Both,
    /// The client is killed, and who repairs it after `more` verbs.
    Repairer,
    /// A memory node is lost, and the master is killed while it changes the view.
    Master,
}

const TROUBLES: [(Trouble, &str); 6] = [
    (Trouble::Kill, "kill"),
    (Trouble::Stop, "stop"),
    (Trouble::Node, "node"),
    (Trouble::Both, "both"),
    (Trouble::Repairer, "repairer"),
    (Trouble::Master, "master"),
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = TROUBLES.iter().find(|(trouble, _)| trouble == self);
        f.pad(known.map_or("", |(_, name)| name))
    }
}

/// One case.
#[derive(Clone, Copy)]
pub struct Spec {
    pub case: &'static Case,
    pub trouble: Trouble,
    /// Verbs that take effect before.
    pub after: u64,
    /// See [`Trouble`].
    pub more: u64,
    pub replicas: u8,
    /// Half of the next verb takes effect, if it is a write.
    pub torn: bool,
    /// The client knows where its keys lie.
    pub warm: bool,
    /// Somebody works on the same keys meanwhile.
    pub busy: bool,
}

impl Spec {
    pub fn new(case: &'static Case, trouble: Trouble, replicas: u8, after: u64) -> Spec {
        let (more, torn, warm, busy) = (0, false, false, false);
        Spec { case, trouble, after, more, replicas, torn, warm, busy }
    }

    /// As many as there are copies, or one more.
    pub fn num_nodes(&self) -> u16 {
        u16::from(self.replicas) + (self.after % 2) as u16
    }

    /// The node that is lost.
    pub fn victim(&self) -> NodeId {
        NodeId((self.after / 2 % u64::from(self.num_nodes())) as u16)
    }

    pub fn loses_node(&self) -> bool {
        matches!(self.trouble, Trouble::Node | Trouble::Both | Trouble::Master)
    }

    /// What the client that works carries.
    pub fn charge(&self) -> Charge {
        let blow = match self.trouble {
            Trouble::Kill | Trouble::Repairer | Trouble::Master => Blow::Kill,
            Trouble::Stop => Blow::Stop,
            Trouble::Node => Blow::Lose(self.victim()),
            Trouble::Both => Blow::LoseAndKill(self.victim()),
        };
        self.charge_of(self.after, blow)
    }

    /// What the client that repairs it carries.
    pub fn second_charge(&self) -> Charge {
        self.charge_of(self.more, Blow::Kill)
    }

    fn charge_of(&self, after: u64, blow: Blow) -> Charge {
        Charge { after, torn: self.torn, half: !after.is_multiple_of(3), blow }
    }

    pub fn lease_ms(&self) -> u32 {
        if self.trouble == Trouble::Stop {
            120
        } else {
            1_000
        }
    }

    /// The chance of this case: always the same.
    pub fn rng(&self) -> Rng {
        let text = self.to_string();
        let mix = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Rng::new(text.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { trouble, after, more, replicas, .. } = self;
        write!(f, "{},{trouble},{after},{more},{replicas}", self.case.name)?;
        let flags = [(self.torn, ",torn"), (self.warm, ",warm"), (self.busy, ",busy")];
        flags.iter().filter(|flag| flag.0).try_for_each(|flag| f.write_str(flag.1))
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        let parts: Vec<&str> = text.split(',').collect();
        let [case, trouble, numbers @ ..] = &parts[..] else { return Err("too short".into()) };
        let case = Case::named(case).ok_or_else(|| format!("no case {case:?}"))?;
        let known = TROUBLES.iter().find(|(_, name)| name == trouble);
        let trouble = known.ok_or_else(|| format!("no trouble {trouble:?}"))?.0;
        let number = |at: usize| {
            let number = numbers.get(at).and_then(|number| number.parse::<u64>().ok());
            number.ok_or_else(|| format!("no number {at} in {text:?}"))
        };
        let has = |flag: &str| parts.contains(&flag);
        Ok(Spec {
            more: number(1)?,
            torn: has("torn"),
            warm: has("warm"),
            busy: has("busy"),
            ..Spec::new(case, trouble, number(2)? as u8, number(0)?)
        })
    }
}

#[test]
fn cases_are_read_as_they_are_written() {
    for case in super::case::CASES {
        let spec = Spec { more: 3, warm: true, ..Spec::new(case, Trouble::Stop, 2, 7) };
        let text = spec.to_string();
        let read: Spec = text.parse().unwrap();
        assert_eq!((read.to_string(), read.charge().after), (text, 7));
    }
    assert!("put,kill,1".parse::<Spec>().is_err());
}
