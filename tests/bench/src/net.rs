//! Figures net of an empty program: without what the kernel does around each run.

/// Cost of one run of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) nanoseconds: f64,
    /// Instructions retired, where the machine counts them.
    pub(crate) instructions: Option<f64>,
}

impl Cost {
    /// The lesser of each figure.
    pub(crate) fn least(self, other: Self) -> Self {
        let instructions = self.instructions.zip(other.instructions);
        Self {
            nanoseconds: self.nanoseconds.min(other.nanoseconds),
            instructions: instructions.map(|(one, other)| one.min(other)),
        }
    }

    /// The mean of each figure.
    ///
    /// # Panics
    ///
    /// `costs` is empty.
    pub(crate) fn mean(costs: &[Self]) -> Self {
        assert!(!costs.is_empty(), "a mean of nothing");
        let count = costs.len() as f64;
        let instructions: Option<f64> = costs.iter().map(|cost| cost.instructions).sum();
        Self {
            nanoseconds: costs.iter().map(|cost| cost.nanoseconds).sum::<f64>() / count,
            instructions: instructions.map(|sum| sum / count),
        }
    }
}

/// Share of the empty program's cost by which a baseline has to exceed it: what is less is mostly noise, and so would be a
/// ratio to it.
const LEAST: f64 = 0.05;

/// `(subject - empty) / (baseline - empty)` of each round of `[empty, baseline, subject]`. Nothing if in the median round
/// the baseline exceeds the empty program by less than [`LEAST`]; without the rounds in which it does not exceed it.
pub(crate) fn ratios(rounds: &[[f64; 3]]) -> Vec<f64> {
    let mut shares: Vec<f64> = rounds
        .iter()
        .map(|[empty, baseline, _]| (baseline - empty) / empty)
        .collect();
    shares.sort_by(f64::total_cmp);
    if shares
        .get(shares.len() / 2)
        .is_none_or(|share| *share < LEAST)
    {
        return Vec::new();
    }
    let exceeding = rounds
        .iter()
        .filter(|[empty, baseline, _]| baseline > empty);
    exceeding
        .map(|[empty, baseline, subject]| (subject - empty) / (baseline - empty))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_ratio_leaves_the_empty_program_out_of_both() {
        assert_eq!(
            ratios(&[[30.0, 40.0, 45.0], [30.0, 50.0, 40.0]]),
            [1.5, 0.5]
        );
        // Cheaper than the empty program: noise, but no reason to hide it.
        assert_eq!(ratios(&[[30.0, 40.0, 29.0]]), [-0.1]);
    }

    #[test]
    fn there_is_no_ratio_to_next_to_nothing() {
        assert!(ratios(&[[30.0, 31.0, 45.0]]).is_empty());
        assert!(ratios(&[[30.0, 29.0, 45.0]]).is_empty());
        assert!(ratios(&[]).is_empty());
        // One round of noise among three.
        let rounds = [[30.0, 40.0, 45.0], [30.0, 29.0, 45.0], [30.0, 40.0, 50.0]];
        assert_eq!(ratios(&rounds), [1.5, 2.0]);
    }

    #[test]
    fn costs_have_instructions_where_all_have() {
        let cost = |nanoseconds, instructions| Cost {
            nanoseconds,
            instructions,
        };
        let [few, many] = [cost(30.0, Some(200.0)), cost(50.0, Some(100.0))];
        assert_eq!(few.least(many), cost(30.0, Some(100.0)));
        assert_eq!(Cost::mean(&[few, many]), cost(40.0, Some(150.0)));
        assert_eq!(few.least(cost(20.0, None)), cost(20.0, None));
        assert_eq!(Cost::mean(&[few, cost(20.0, None)]), cost(25.0, None));
    }
}
