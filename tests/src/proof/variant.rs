//! Edited copies of rule `payer`, built with the host's own `rule build`, and what the model says of each.

use crate::model::{MapSide, PayerRow};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rule's source, as it stands in the repository.
const SOURCE: &str = include_str!("../../../rules/payer/src/lib.rs");
/// Map sides that differ from the rule's own.
const MAP_SIDES: [MapSide; 5] = [
    MapSide::StatesUpTo(2),
    MapSide::Baskets,
    MapSide::StatesUpTo(1),
    MapSide::BasketsUpTo(2),
    MapSide::BasketsUpTo(1),
];
/// Edited map sides that there are.
pub const MAP_EDITS: u64 = MAP_SIDES.len() as u64;

/// What gives labels. Amounts are hundredths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSide {
    silver_min: i128,
    gold_min: i128,
    refunds_min: i64,
    refunder: &'static str,
    /// A label of its own for so many paid orders.
    regular_min: Option<i64>,
}

/// A revision's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Name of its file.
    pub name: String,
    /// What it counts.
    pub map: MapSide,
    /// What gives labels.
    pub labels: LabelSide,
}

/// Labels of one key: name → value, empty for a flag.
pub type KeyLabels = BTreeMap<String, String>;

impl Variant {
    /// The rule as it is.
    #[must_use]
    pub fn base() -> Self {
        let labels = LabelSide {
            silver_min: 200_000,
            gold_min: 1_000_000,
            refunds_min: 1,
            refunder: "refunder",
            regular_min: None,
        };
        Self { name: "base".into(), map: MapSide::States, labels }
    }

    /// Edit `n` (from 0) of the label side: a threshold, another one, a count, a new label, a renamed one.
    #[must_use]
    pub fn labels(n: u64) -> Self {
        let mut variant = Self { name: format!("labels-{n}"), ..Self::base() };
        let (labels, step) = (&mut variant.labels, i64::try_from(n / 5).unwrap_or(0) + 1);
        match n % 5 {
            0 => labels.silver_min -= 10_000 * i128::from(step),
            1 => labels.gold_min -= 100_000 * i128::from(step),
            2 => labels.refunds_min += step,
            3 => labels.regular_min = Some(2 + step),
            _ => {
                labels.refunder = "returner";
                labels.refunds_min = step;
            }
        }
        variant
    }

    /// Edit `n` (from 0) of the map side.
    ///
    /// # Errors
    /// There are not so many.
    pub fn aggregates(n: u64) -> Result<Self> {
        let map =
            MAP_SIDES.get(n as usize).with_context(|| format!("only {MAP_EDITS} edits of the map side"))?;
        Ok(Self { name: format!("aggregates-{n}"), map: *map, ..Self::base() })
    }

    /// The rule's source with the edit in it.
    ///
    /// # Errors
    /// The source has not what is edited.
    pub fn source(&self) -> Result<String> {
        let mut source = Source(SOURCE.to_owned());
        let base = Self::base().labels;
        let LabelSide { silver_min, gold_min, refunds_min, refunder, regular_min } = &self.labels;
        if *silver_min != base.silver_min {
            source.replace("lit(\"2000.00\")", &format!("lit(\"{}\")", decimal(*silver_min)))?;
        }
        if *gold_min != base.gold_min {
            source.replace("lit(\"10000.00\")", &format!("lit(\"{}\")", decimal(*gold_min)))?;
        }
        if *refunds_min != base.refunds_min {
            source.replace("sums.refunded > 0", &format!("sums.refunded >= {refunds_min}"))?;
        }
        if *refunder != base.refunder {
            source.replace("    refunder: bool,", &format!("    {refunder}: bool,"))?;
            source.replace("refunder: sums", &format!("{refunder}: sums"))?;
        }
        if let Some(min) = regular_min {
            source.replace(
                "    tier: Option<Tier>,",
                "    tier: Option<Tier>,\n    /// Comes back.\n    regular: bool,",
            )?;
            let label = "tier: Tier::of(sums.spent),";
            source.replace(label, &format!("{label}\n            regular: sums.paid_orders >= {min},"))?;
        }
        if matches!(self.map, MapSide::Baskets | MapSide::BasketsUpTo(_)) {
            source.replace(
                "    merchant_id: i64,\n    state: i64,",
                "    order_id: i64,\n    quantity: i64,",
            )?;
            source.replace("match order.state", "match order.quantity")?;
            source.replace("order.merchant_id", "order.order_id")?;
        }
        if let MapSide::StatesUpTo(max) | MapSide::BasketsUpTo(max) = self.map {
            source.replace("1..=3 =>", &format!("1..={max} =>"))?;
        }
        Ok(source.0)
    }

    /// Labels that a user with these aggregates carries.
    #[must_use]
    pub fn labels_of(&self, row: &PayerRow, big_spender_min: i128) -> KeyLabels {
        let side = &self.labels;
        let flags = [
            ("never_paid", row.registered && row.paid_orders == 0),
            ("big_spender", row.spent >= big_spender_min),
            (side.refunder, row.refunded >= side.refunds_min),
            ("regular", side.regular_min.is_some_and(|min| row.paid_orders >= min)),
        ];
        let carried = flags.into_iter().filter(|(_, carried)| *carried);
        let mut labels: KeyLabels = carried.map(|(name, _)| (name.to_owned(), String::new())).collect();
        if row.spent >= side.gold_min {
            labels.insert("tier".into(), "gold".into());
        } else if row.spent >= side.silver_min {
            labels.insert("tier".into(), "silver".into());
        }
        labels
    }
}

/// A text that is edited where it must have what is replaced, once.
struct Source(String);

impl Source {
    fn replace(&mut self, from: &str, to: &str) -> Result<()> {
        if self.0.matches(from).count() != 1 {
            bail!(
                "rules/payer/src/lib.rs has `{from}` not exactly once: the edits of tests/src/proof/variant.rs are old"
            );
        }
        self.0 = self.0.replace(from, to);
        Ok(())
    }
}

fn decimal(hundredths: i128) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Builds variants in a crate of their own in `dir`; what was built from the same source by the same host is kept.
#[derive(Debug)]
pub struct Workshop {
    retag: PathBuf,
    dir: PathBuf,
}

impl Workshop {
    /// In `dir`, with the binary `retag`.
    ///
    /// # Errors
    /// The crate cannot be made.
    pub fn open(retag: &Path, dir: &Path) -> Result<Self> {
        let workshop = Self { retag: retag.to_owned(), dir: dir.to_owned() };
        std::fs::create_dir_all(dir)?;
        let made = std::fs::metadata(workshop.dir.join("payer/Cargo.toml")).and_then(|m| m.modified());
        let host = std::fs::metadata(retag).and_then(|m| m.modified());
        let host = host.with_context(|| format!("no {}", retag.display()))?;
        if made.is_ok_and(|made| made > host) {
            return Ok(workshop);
        }
        std::fs::remove_dir_all(dir)?;
        std::fs::create_dir_all(dir)?;
        workshop.run(&["rule", "init", "payer"])?;
        Ok(workshop)
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new(&self.retag).args(arguments).current_dir(&self.dir).output()?;
        if !done.status.success() {
            bail!("retag {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// The variant's file.
    ///
    /// # Errors
    /// It does not build.
    pub fn build(&self, variant: &Variant) -> Result<Vec<u8>> {
        let (source, name) = (variant.source()?, &variant.name);
        let [kept_source, file] = ["rs", "wasm"].map(|ext| self.dir.join(format!("{name}.{ext}")));
        let is_same = std::fs::read_to_string(&kept_source).is_ok_and(|kept| kept == source);
        if !is_same || !file.is_file() {
            println!("building {name} of rule payer");
            std::fs::write(self.dir.join("payer/src/lib.rs"), &source)?;
            self.run(&["rule", "build", "payer", "-o", &format!("{name}.wasm")])?;
            std::fs::write(&kept_source, &source)?;
        }
        std::fs::read(&file).with_context(|| format!("read {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_edit_is_another_source_and_says_what_the_model_says() {
        let edits =
            (0..12).map(Variant::labels).chain((0..MAP_EDITS).map(|n| Variant::aggregates(n).unwrap()));
        let mut variants: Vec<Variant> = edits.collect();
        variants.push(Variant::base());
        let sources: BTreeSet<String> = variants.iter().map(|v| v.source().unwrap()).collect();
        assert_eq!(sources.len(), variants.len());
        assert_eq!(Variant::base().source().unwrap(), SOURCE);
        assert!(Variant::labels(0).source().unwrap().contains("lit(\"1900.00\")"));
        assert!(Variant::aggregates(4).unwrap().source().unwrap().contains("1..=1 =>"));
        assert!(Variant::aggregates(MAP_EDITS).is_err());
    }

    #[test]
    fn labels_follow_the_edit() {
        let row = PayerRow { paid_orders: 3, spent: 195_000, refunded: 1, merchants: 1, registered: true };
        let of = |variant: Variant, min| -> Vec<String> {
            variant.labels_of(&row, min).into_iter().map(|(name, value)| name + &value).collect()
        };
        assert_eq!(of(Variant::base(), 500_000), ["refunder"]);
        assert_eq!(of(Variant::base(), 195_000), ["big_spender", "refunder"]);
        assert_eq!(of(Variant::labels(0), 500_000), ["refunder", "tiersilver"]);
        assert_eq!(of(Variant::labels(2), 500_000), [] as [&str; 0]);
        assert_eq!(of(Variant::labels(3), 500_000), ["refunder", "regular"]);
        assert_eq!(of(Variant::labels(4), 500_000), ["returner"]);
    }
}
