//! What was done to one key and what was seen of it, and whether the two agree.
//!
//! One writer at a time writes, so its changes of a key have an order. A history is linearizable if each
//! read can be put between two of them such that it answers the latter's predecessor, lies inside its own
//! interval, and no read that began after another one had ended is put before it.

/// A value is known by the number of the change that wrote it; `None` is no entry.
pub type Value = Option<u64>;

/// One change, in ns of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub value: Value,
    pub begun: u64,
    /// `None`: the writer was killed before it returned. It may have happened, or may yet at the next start.
    pub returned: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Read {
    pub value: Value,
    pub begun: u64,
    pub returned: u64,
}

/// The first read that no linearization explains. `changes` are in their order.
pub fn violation(changes: &[Change], reads: &[Read]) -> Option<Read> {
    let nothing = Change {
        value: None,
        begun: 0,
        returned: Some(0),
    };
    let changes: Vec<_> = std::iter::once(&nothing).chain(changes).collect();
    let mut reads: Vec<_> = reads.iter().map(|read| (read, 0)).collect();
    reads.sort_by_key(|(read, _)| read.begun);
    let mut by_return: Vec<_> = (0..reads.len()).collect();
    by_return.sort_by_key(|i| reads[*i].0.returned);
    let mut over = by_return.into_iter().peekable();
    // No read can be put before this change any more.
    let mut least = 0;
    for i in 0..reads.len() {
        let read = reads[i].0;
        while let Some(before) = over.next_if(|before| reads[*before].0.returned < read.begun) {
            least = least.max(reads[before].1);
        }
        let over_by_then = |c: &&Change| c.returned.is_some_and(|at| at < read.begun);
        let newest = changes.iter().rposition(over_by_then).unwrap_or(0);
        // The earliest place leaves the most room to the reads that follow.
        let place = (least.max(newest)..changes.len())
            .take_while(|at| changes[*at].begun <= read.returned)
            .find(|at| changes[*at].value == read.value);
        match place {
            Some(place) => reads[i].1 = place,
            None => return Some(*read),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(value: Value, begun: u64, returned: u64) -> Change {
        let returned = (returned > 0).then_some(returned);
        Change {
            value,
            begun,
            returned,
        }
    }

    fn agree(changes: &[Change], reads: &[(Value, u64, u64)]) -> bool {
        let read = |&(value, begun, returned): &(Value, u64, u64)| Read {
            value,
            begun,
            returned,
        };
        let reads: Vec<_> = reads.iter().map(read).collect();
        violation(changes, &reads).is_none()
    }

    #[test]
    fn what_is_and_what_is_not_linearizable() {
        let changes = [change(Some(1), 10, 20), change(Some(2), 30, 40)];
        assert!(agree(&changes, &[(None, 5, 15), (Some(1), 15, 18)]));
        assert!(agree(&changes, &[(Some(1), 35, 36), (Some(2), 37, 38)]));
        assert!(agree(&changes, &[(Some(2), 32, 50), (Some(1), 33, 34)]));
        assert!(!agree(&changes, &[(None, 21, 25)]), "lost");
        assert!(!agree(&changes, &[(Some(1), 41, 42)]), "stale");
        assert!(
            !agree(&changes, &[(Some(2), 25, 29)]),
            "before it was written"
        );
        assert!(!agree(&changes, &[(Some(3), 50, 60)]), "from nowhere");
        let back = [(Some(2), 31, 32), (Some(1), 33, 34)];
        assert!(!agree(&changes, &back), "back in time");
    }

    #[test]
    fn what_was_in_flight_at_a_kill_may_come_late_or_never() {
        let changes = [
            change(Some(1), 10, 20),
            change(None, 30, 0),
            change(Some(3), 60, 70),
        ];
        assert!(agree(
            &changes,
            &[(Some(1), 40, 41), (None, 50, 51), (Some(3), 80, 81)]
        ));
        assert!(agree(&changes, &[(Some(1), 50, 51), (Some(3), 80, 81)]));
        assert!(
            !agree(&changes, &[(None, 40, 41), (Some(1), 50, 51)]),
            "and gone again"
        );
        assert!(!agree(&changes, &[(None, 80, 81)]));
    }
}
