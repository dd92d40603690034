//! Who wins a round: a pure function of what the backups hold, shared with the model checker.

/// How a round was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The slot has no copies: its one word decides.
    Single,
    /// All backups took the same value.
    One,
    /// More than half of them did.
    Two,
    /// The smallest value wins.
    Three,
    /// Somebody else finished the round for its winner.
    Helped,
}

/// The winner among `held`, one value a backup, none of them the old one: a strict majority, else
/// the least. The answer stays the same while backups change over to the winner one by one.
pub fn winner(held: &[u64]) -> u64 {
    let majority = |value: u64| held.iter().filter(|&&other| other == value).count() * 2;
    let mut least = u64::MAX;
    for &value in held {
        if majority(value) > held.len() {
            return value;
        }
        least = least.min(value);
    }
    least
}

/// What a writer of `new` knows from `held`, what its proposals left on the backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All backups hold it: it wins, whatever the primary says.
    Won,
    /// No backup took its value: it cannot win any more.
    Lost,
    /// [`winner`] names the winner and the rule, provided that the round is still open: the
    /// primary, read after `held`, is still the old value. Not even a majority can do without:
    /// a helper may have finished the round, so that the minority is of the next one.
    IfOpen,
}

/// See [`Verdict`].
pub fn verdict(held: &[u64], new: u64) -> Verdict {
    let mine = held.iter().filter(|&&value| value == new).count();
    if mine == held.len() {
        Verdict::Won
    } else if mine == 0 {
        Verdict::Lost
    } else {
        Verdict::IfOpen
    }
}

/// The rule by which `new` wins if it is the [`winner`] among `held`.
pub fn rule(held: &[u64], new: u64) -> Rule {
    let mine = held.iter().filter(|&&value| value == new).count();
    if mine == held.len() {
        Rule::One
    } else if mine * 2 > held.len() {
        Rule::Two
    } else {
        Rule::Three
    }
}

/// What a helper of a round over `old` does, knowing that the round is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// Nobody has proposed anything.
    Nothing,
    /// Proposals of a dead writer are incomplete: propose this on the backups that are still old.
    Fill(u64),
    /// This value wins.
    Finish(u64),
}

/// See [`Help`].
pub fn help(held: &[u64], old: u64) -> Help {
    let proposed = held.iter().copied().filter(|&value| value != old);
    match proposed.clone().min() {
        None => Help::Nothing,
        Some(least) if proposed.count() < held.len() => Help::Fill(least),
        Some(_) => Help::Finish(winner(held)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_does_not_change_while_the_others_change_over() {
        for case in 0..256u64 {
            let held: Vec<u64> = (0..4).map(|i| 1 + (case >> (2 * i) & 3)).collect();
            let wins = winner(&held);
            for changed in 0..16 {
                let mixed = |(i, &value)| if changed >> i & 1 == 1 { wins } else { value };
                let mixed: Vec<u64> = held.iter().enumerate().map(mixed).collect();
                assert_eq!(winner(&mixed), wins, "{held:?} {mixed:?}");
            }
        }
    }

    #[test]
    fn verdicts_and_help_agree_with_the_winner() {
        assert_eq!(verdict(&[5], 5), Verdict::Won);
        assert_eq!(verdict(&[5, 5, 6], 5), Verdict::IfOpen);
        assert_eq!((rule(&[5, 5, 6], 5), rule(&[5, 5], 5)), (Rule::Two, Rule::One));
        assert_eq!(rule(&[5, 6], 5), Rule::Three);
        assert_eq!(verdict(&[5, 7], 7), Verdict::IfOpen);
        assert_eq!(verdict(&[5, 7], 8), Verdict::Lost);
        assert_eq!((winner(&[5, 7]), winner(&[9, 7, 9])), (5, 9));
        assert_eq!(help(&[1, 1], 1), Help::Nothing);
        assert_eq!(help(&[1, 9, 7], 1), Help::Fill(7));
        assert_eq!(help(&[9, 9, 7], 1), Help::Finish(9));
    }
}
