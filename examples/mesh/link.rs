//! The simulated network: frames get lost, arrive twice, overtake one another, or run into a partition.
//!
//! It runs on steps, one an event, and not on trace time: between two events of a real trace lie hours, in which any
//! frame would have arrived, and nothing would ever be concurrent.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::options::Options;
use super::prng::Prng;

/// A frame takes from 1 to this many steps.
const DELAY_STEPS_MAX: u64 = 24;
/// How many times the mesh falls apart in the course of a trace.
const PARTITIONS: u64 = 16;
const LINK_STREAM: u64 = 2;
const PARTITION_STREAM: u64 = 3;

/// A frame that arrives.
pub(crate) struct Arrival {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: Rc<[u8]>,
}

/// What the links did, in frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Lost because sender and receiver were in different groups.
    pub(crate) cut: u64,
    pub(crate) duplicated: u64,
    /// Arrived after a frame that was sent later on the same link.
    pub(crate) overtaken: u64,
    pub(crate) arrived: u64,
}

pub(crate) struct Network {
    prng: Prng,
    loss: f64,
    duplicate: f64,
    partitions: Option<Partitions>,
    /// By the step of arrival, then in the order in which they were sent.
    in_flight: BTreeMap<(u64, u64), Arrival>,
    /// Copies put on a link so far.
    copies: u64,
    /// For each link the latest sent copy that has arrived.
    latest: BTreeMap<(usize, usize), u64>,
    traffic: Traffic,
}

impl Network {
    pub(crate) fn new(options: &Options, steps: u64) -> Self {
        Self {
            prng: Prng::new(options.seed, LINK_STREAM),
            loss: options.loss,
            duplicate: options.duplicate,
            partitions: Partitions::new(options, steps),
            in_flight: BTreeMap::new(),
            copies: 0,
            latest: BTreeMap::new(),
            traffic: Traffic::default(),
        }
    }

    pub(crate) fn send(&mut self, step: u64, from: usize, to: usize, bytes: &Rc<[u8]>) {
        self.traffic.sent += 1;
        if self.is_cut(step, from, to) {
            self.traffic.cut += 1;
            return;
        }
        if self.prng.chance(self.loss) {
            self.traffic.lost += 1;
            return;
        }
        self.launch(step, from, to, bytes);
        if self.prng.chance(self.duplicate) {
            self.traffic.duplicated += 1;
            self.launch(step, from, to, bytes);
        }
    }

    fn launch(&mut self, step: u64, from: usize, to: usize, bytes: &Rc<[u8]>) {
        self.copies += 1;
        let due = step + 1 + self.prng.below(DELAY_STEPS_MAX);
        self.in_flight.insert((due, self.copies), Arrival { from, to, bytes: Rc::clone(bytes) });
    }

    /// The next frame that arrives at `step` or before; to be called until there is none.
    pub(crate) fn arrival(&mut self, step: u64) -> Option<Arrival> {
        loop {
            let first = self.in_flight.first_entry()?;
            let (due, copy) = *first.key();
            if due > step {
                return None;
            }
            let arrival = first.remove();
            // A partition that began while the frame was under way stops it as well.
            if self.is_cut(due, arrival.from, arrival.to) {
                self.traffic.cut += 1;
                continue;
            }
            let latest = self.latest.entry((arrival.from, arrival.to)).or_default();
            self.traffic.overtaken += u64::from(copy < *latest);
            *latest = copy.max(*latest);
            self.traffic.arrived += 1;
            return Some(arrival);
        }
    }

    /// From now on nothing gets lost, doubled or cut. Frames still overtake one another.
    pub(crate) fn heal(&mut self) {
        self.loss = 0.0;
        self.duplicate = 0.0;
        self.partitions = None;
    }

    /// The step at which the last frame in flight arrives.
    pub(crate) fn last_due(&self) -> Option<u64> {
        self.in_flight.last_key_value().map(|((due, _), _)| *due)
    }

    pub(crate) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn is_cut(&self, step: u64, from: usize, to: usize) -> bool {
        self.partitions.as_ref().is_some_and(|partitions| partitions.separate(step, from, to))
    }
}

/// When the replicas are split in two groups, and which: one stretch in each period, at a place and with groups that
/// the seed decides.
struct Partitions {
    seed: u64,
    replicas: u64,
    period: u64,
    cut: u64,
}

impl Partitions {
    /// `None` where nothing is ever split.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a small number of steps"
    )]
    fn new(options: &Options, steps: u64) -> Option<Self> {
        let replicas = options.replicas as u64;
        let period = (steps / PARTITIONS).max(8);
        let cut = (period as f64 * options.partition).round() as u64;
        (cut > 0 && replicas > 1).then_some(Self { seed: options.seed, replicas, period, cut })
    }

    fn separate(&self, step: u64, from: usize, to: usize) -> bool {
        let (number, at) = (step / self.period, step % self.period);
        let mut prng = Prng::new(self.seed ^ number, PARTITION_STREAM);
        let start = prng.below(self.period - self.cut + 1);
        if at < start || at >= start + self.cut {
            return false;
        }
        // One bit a replica, at most 64 of them, and neither none of them nor all.
        let all = u64::MAX >> (64 - self.replicas);
        let group = 1 + prng.below(all - 1);
        (group >> from) & 1 != (group >> to) & 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(loss: f64, duplicate: f64, partition: f64) -> Network {
        Network::new(&Options { loss, duplicate, partition, ..Options::default() }, 16_000)
    }

    /// Sends `frames`, one a step, and returns what arrives.
    fn arrivals(network: &mut Network, frames: u16) -> Vec<u16> {
        let mut arrived = Vec::new();
        for step in 0..u64::from(frames) + DELAY_STEPS_MAX + 1 {
            while let Some(arrival) = network.arrival(step) {
                arrived.push(u16::from_le_bytes([arrival.bytes[0], arrival.bytes[1]]));
            }
            if let Ok(number) = u16::try_from(step)
                && number < frames
            {
                network.send(step, 0, 1, &Rc::from(number.to_le_bytes()));
            }
        }
        assert!(network.last_due().is_none());
        arrived
    }

    #[test]
    fn a_good_link_only_reorders() {
        let mut network = network(0.0, 0.0, 0.0);
        let mut arrived = arrivals(&mut network, 1_000);
        assert!(!arrived.is_sorted());
        arrived.sort_unstable();
        assert!(arrived.into_iter().eq(0..1_000));
        assert!(network.traffic().overtaken > 100);
    }

    #[test]
    fn a_bad_link_loses_and_repeats_as_often_as_told() {
        let mut network = network(0.3, 0.2, 0.0);
        let arrived = arrivals(&mut network, 10_000).len() as u64;
        let Traffic { sent, lost, duplicated, .. } = network.traffic();
        assert_eq!(arrived, sent - lost + duplicated);
        assert!((2_800..3_200).contains(&lost) && (1_250..1_550).contains(&duplicated));
        network.heal();
        assert_eq!(arrivals(&mut network, 10).len(), 10);
    }

    #[test]
    fn a_partition_cuts_for_its_share_of_the_time_and_both_ways() {
        let partitions = network(0.0, 0.0, 0.25).partitions.unwrap();
        let pairs = || (0..5).flat_map(|from| (0..5).map(move |to| (from, to)));
        let mut split = 0;
        for step in 0..16_000 {
            let cut: Vec<bool> = pairs().map(|(from, to)| partitions.separate(step, from, to)).collect();
            let back: Vec<bool> = pairs().map(|(from, to)| partitions.separate(step, to, from)).collect();
            assert_eq!(cut, back);
            assert!((0..5).all(|replica| !partitions.separate(step, replica, replica)));
            split += u64::from(cut.contains(&true));
        }
        assert_eq!(split, 4_000);
    }

    #[test]
    fn two_groups_are_never_empty() {
        for replicas in [2, 64] {
            let options = Options { replicas, partition: 1.0, ..Options::default() };
            let partitions = Partitions::new(&options, 800).unwrap();
            for step in 0..800 {
                assert!((1..replicas).any(|replica| partitions.separate(step, 0, replica)));
            }
        }
        assert!(Partitions::new(&Options { replicas: 1, ..Options::default() }, 800).is_none());
    }
}
