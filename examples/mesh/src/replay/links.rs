//! The connections between the processes.

use std::collections::BTreeSet;

/// A connection that is kept while nothing keeps it from being.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The process that dials.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// A fault has cut it.
    pub(crate) cut: bool,
    /// Whether the dialling process was last told to join it.
    pub(crate) joined: bool,
}

impl Link {
    const fn new(from: usize, to: usize) -> Self {
        Self { from, to, cut: false, joined: false }
    }

    pub(crate) const fn has(&self, process: usize) -> bool {
        self.from == process || self.to == process
    }
}

/// Agents in a ring with a chord or two; but for the last one, which is connected through the relay only. The links
/// between agents come first.
pub(crate) fn links(processes: usize) -> Vec<Link> {
    let mut pairs = BTreeSet::new();
    let mut add = |one: usize, other: usize| {
        if one != other {
            pairs.insert((one.min(other), one.max(other)));
        }
    };
    let ring = processes.saturating_sub(1);
    for process in 0..ring {
        add(process, (process + 1) % ring);
    }
    if ring >= 4 {
        add(1, 1 + ring / 2);
    }
    if ring >= 8 {
        add(3, 3 + ring / 2);
    }
    let mut links: Vec<Link> = pairs.into_iter().map(|(from, to)| Link::new(from, to)).collect();
    if let Some(relay) = relay(processes) {
        let clients: BTreeSet<usize> = [0, ring / 2, ring].into();
        links.extend(clients.into_iter().map(|client| Link::new(client, relay)));
    }
    links
}

/// The number of the relay, which comes after the agents' processes. One process alone needs none.
pub(crate) const fn relay(processes: usize) -> Option<usize> {
    if processes > 1 { Some(processes) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_connected_and_the_last_one_through_the_relay_only() {
        for processes in 2..=16 {
            let links = links(processes);
            let mut reached = BTreeSet::from([0]);
            for _ in 0..=processes {
                for link in &links {
                    if reached.contains(&link.from) || reached.contains(&link.to) {
                        reached.extend([link.from, link.to]);
                    }
                }
            }
            assert_eq!(reached.len(), processes + 1);
            let last: Vec<&Link> = links.iter().filter(|link| link.has(processes - 1)).collect();
            assert!(last.len() == 1 && last[0].to == processes);
        }
        assert!(links(1).is_empty());
    }
}
