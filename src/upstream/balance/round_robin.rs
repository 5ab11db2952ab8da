//! Round robin by weight, smoothly interleaved.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Selector, scan};

/// Endpoints in turn. One cycle of turns is laid out beforehand, and all workers take their turns from one counter,
/// so that each cycle is exactly fair whoever asks.
pub(super) struct RoundRobin {
    endpoints: usize,
    /// One cycle: whose turn it is.
    cycle: Box<[usize]>,
    turn: AtomicUsize,
}

impl RoundRobin {
    /// An endpoint per weight; a weight of zero counts as one.
    pub(super) fn build(weights: impl Iterator<Item = u16>) -> Self {
        let weights: Vec<u16> = weights.map(|weight| weight.max(1)).collect();
        Self {
            endpoints: weights.len(),
            cycle: cycle(&weights),
            turn: AtomicUsize::new(0),
        }
    }
}

impl Selector for RoundRobin {
    /// A turn of an endpoint that is not accepted is used up: if its successor got it, that one would carry the load
    /// of two.
    fn pick(&self, _key: &[u8], accept: &dyn Fn(usize) -> bool) -> Option<usize> {
        let turns = self.cycle.len();
        for _ in 0..turns {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let place = *self.cycle.get(turn % turns)?;
            if accept(place) {
                return Some(place);
            }
        }
        // Others may have taken just the turns that would have been accepted.
        scan(self.turn.load(Ordering::Relaxed), self.endpoints, accept)
    }
}

/// The shortest cycle that gives each endpoint its share, laid out as nginx's smooth weighted round robin does:
/// with every turn all gain credit by weight, and the one with the most pays the turn.
fn cycle(weights: &[u16]) -> Box<[usize]> {
    let divisor = weights.iter().copied().fold(0, common_divisor).max(1);
    let weights: Vec<i64> = weights
        .iter()
        .map(|&weight| i64::from(weight / divisor))
        .collect();
    let total: i64 = weights.iter().sum();
    let mut credits = vec![0_i64; weights.len()];
    let turn = |_| {
        for (credit, weight) in credits.iter_mut().zip(&weights) {
            *credit += weight;
        }
        // `max_by_key` takes the last of equals; reversed, the first.
        let (place, credit) = credits
            .iter_mut()
            .enumerate()
            .rev()
            .max_by_key(|(_, credit)| **credit)?;
        *credit -= total;
        Some(place)
    };
    (0..total).filter_map(turn).collect()
}

fn common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(selector: &RoundRobin, count: usize, accept: &dyn Fn(usize) -> bool) -> Vec<usize> {
        (0..count).filter_map(|_| selector.pick(b"", accept)).collect()
    }

    fn counts(places: &[usize], endpoints: usize) -> Vec<usize> {
        let count = |place| places.iter().filter(|&&other| other == place).count();
        (0..endpoints).map(count).collect()
    }

    #[test]
    fn weights_are_reduced_and_turns_interleaved() {
        assert_eq!(*cycle(&[500, 100, 100]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*cycle(&[7, 7]), [0, 1]);
        assert!(cycle(&[]).is_empty());
        let rotation = RoundRobin::build([0, 0].into_iter());
        assert_eq!(picks(&rotation, 4, &|_| true), [0, 1, 0, 1]);
    }

    #[test]
    fn an_excluded_endpoint_leaves_its_share_to_all_others() {
        let rotation = RoundRobin::build([1, 1, 1, 1].into_iter());
        let picked = picks(&rotation, 300, &|place| place != 1);
        assert_eq!(counts(&picked, 4), [100, 0, 100, 100]);
    }

    #[test]
    fn light_endpoints_share_evenly_when_the_heavy_one_is_excluded() {
        let rotation = RoundRobin::build([1_000, 1, 1].into_iter());
        let picked = picks(&rotation, 100, &|place| place != 0);
        assert_eq!(counts(&picked, 3), [0, 50, 50]);
    }

    #[test]
    fn nothing_accepted_is_nothing_picked_and_the_rotation_goes_on() {
        let rotation = RoundRobin::build([1, 1].into_iter());
        let mut picked = Vec::new();
        for _ in 0..4 {
            assert_eq!(rotation.pick(b"", &|_| false), None);
            picked.extend(rotation.pick(b"", &|_| true));
        }
        assert_eq!(picked, [0, 1, 0, 1]);
        assert_eq!(RoundRobin::build(std::iter::empty()).pick(b"", &|_| true), None);
    }

    #[test]
    fn a_cycle_is_fair_over_several_workers() {
        let rotation = RoundRobin::build([3, 2, 1].into_iter());
        let mut all = Vec::new();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| picks(&rotation, 600, &|_| true)))
                .collect();
            for worker in workers {
                all.extend(worker.join().unwrap());
            }
        });
        assert_eq!(counts(&all, 3), [1_200, 800, 400]);
    }
}
