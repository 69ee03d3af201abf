//! Which model a request of a trace asks for: drawn by weight, the same for the same row always,
//! so that a replay that is continued asks for the same ones.

use crate::cli::error::CliError;

/// The largest weight of one model.
const MAX_WEIGHT: u32 = 1_000_000;

/// Models with their weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mix {
    models: Vec<(String, u32)>,
    total: u64,
}

impl Mix {
    /// From `NAME` or `NAME=WEIGHT`, at least one.
    pub(super) fn parse(given: &[String]) -> Result<Self, CliError> {
        let models = given.iter().map(|text| model(text)).collect::<Result<Vec<_>, _>>()?;
        let total = models.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 {
            return Err(CliError::usage("--model: name at least one with a weight above zero"));
        }
        Ok(Self { models, total })
    }

    /// The model of a row.
    pub(super) fn of(&self, row: u64) -> &str {
        let mut point = scatter(row).checked_rem(self.total).unwrap_or(0);
        for (name, weight) in &self.models {
            match point.checked_sub(u64::from(*weight)) {
                Some(rest) => point = rest,
                None => return name,
            }
        }
        // The point is below the total of all weights, so that a model was found.
        ""
    }

    /// How it is written, for the resume file.
    pub(super) fn describe(&self) -> Vec<String> {
        self.models.iter().map(|(name, weight)| format!("{name}={weight}")).collect()
    }
}

/// A model's name may hold `=`; a weight comes after the last one.
fn model(text: &str) -> Result<(String, u32), CliError> {
    let (name, weight) = match text.rsplit_once('=') {
        Some((name, weight)) => {
            let weight = weight.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
            let weight = weight.ok_or_else(|| {
                CliError::usage(format!(
                    "--model {text}: write NAME=WEIGHT with a whole weight up to {MAX_WEIGHT}"
                ))
            })?;
            (name, weight)
        }
        None => (text, 1),
    };
    if name.is_empty() {
        return Err(CliError::usage("--model: the name is missing"));
    }
    Ok((name.to_owned(), weight))
}

/// The finaliser of `SplitMix64`: neighbouring rows become unrelated numbers.
const fn scatter(row: u64) -> u64 {
    let mut z = row.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_come_by_their_weights_and_a_row_keeps_its_model() {
        let mix = Mix::parse(&["a=3".into(), "b".into(), "c=0".into()]).unwrap();
        let count = |name: &str| (0..10_000).filter(|row| mix.of(*row) == name).count();
        assert!((7_300..7_700).contains(&count("a")), "{}", count("a"));
        assert_eq!(count("a") + count("b"), 10_000);
        assert_eq!(mix.of(77), mix.of(77));
    }

    #[test]
    fn a_mix_without_weight_or_with_a_wrong_one_is_refused() {
        for given in [&["a=0"][..], &[], &["a=x"], &["=1"], &["a=-1"], &["a=9999999"]] {
            let given: Vec<String> = given.iter().map(ToString::to_string).collect();
            assert!(matches!(Mix::parse(&given), Err(CliError::Usage(_))), "{given:?}");
        }
    }
}
