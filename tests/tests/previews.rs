//! Sampled previews against the truth: what activating the revision then changes, with no event in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use retag_host::api::{About, Reader, sampled};
use retag_host::registry::command::Command;
use retag_host::registry::preview::compare;
use retag_host::registry::revision::{Estimate, LabelSpan};
use retag_tests::shop::Config;
use retag_tests::simulation::{Fate, Random, Rules, World, push, registry};
use std::collections::BTreeMap;
use std::sync::Arc;

const RUNS: u64 = 200;

#[test]
fn the_truth_lies_inside_the_bounds_of_sampled_previews() {
    let mut random = Random(11);
    let config = Config { seed: 11, events: 12_000, users: 3_000, partitions: 2, ..Config::default() };
    let mut world = World::new(&config);
    (world.cycle_bytes_max, world.block_bytes) = (400_000, 50_000);
    (world.limits.overlay_bytes, world.limits.page_bytes, world.limits.page_bytes_max) =
        (400_000, 4_000, 8_000);
    let rules = Rules::load(&["payer"]);
    let params = BTreeMap::from([("big_spender_min".to_owned(), "900.00".into())]);
    let lower = Rules::with_params(&["payer"], &params);
    let file = lower.get("payer");
    let fate = world.run_asked(&rules, u64::MAX, vec![(push(file), None)], &mut random);
    assert!(matches!(fate, Fate::Ended), "{fate:?}");

    let reader = Reader::new(world.view(), Arc::new(About::default())).unwrap();
    let mut found = Vec::new();
    for seed in 0..RUNS {
        let (answer, _) = sampled::preview(&reader, file, ("payer", 2), (500, seed)).unwrap();
        assert!(answer.preview.id.ends_with("-sampled"), "{}", answer.preview.id);
        assert!(answer.samples.iter().all(|of| of.entered.len() <= 20 && of.left.len() <= 20));
        found.push(answer.preview.sampled.unwrap());
    }
    let looked_at: u64 = found.iter().map(|sampling| sampling.keys).sum();
    assert!((400..600).contains(&(looked_at / RUNS)), "{looked_at}");

    let prepare = Command::Prepare { rule: "payer".into(), revision: 2 };
    let fate = world.run_asked(&rules, u64::MAX, vec![(prepare, Some(file.code()))], &mut random);
    assert!(matches!(fate, Fate::Ended), "{fate:?}");
    let (view, at_end) = (world.view(), registry(&world.view()));
    let new = at_end.generation_of("payer", 2).unwrap();
    let truth = compare(&view, at_end.live("payer").unwrap(), new, &mut |_| ());
    assert!(truth.changed_keys > 100, "{truth:?}");
    let inside = |of: &dyn Fn(usize) -> Estimate, truth: u64| {
        (0..found.len()).filter(|n| (of(*n).from..=of(*n).to).contains(&truth)).count()
    };
    let changed = inside(&|n| found[n].changed, truth.changed_keys);
    assert!(changed >= 185, "{changed} of {RUNS}");
    for label in &truth.labels {
        let of = |n: usize| {
            let same = |l: &&LabelSpan| (&l.label, &l.value) == (&label.label, &label.value);
            found[n].labels.iter().find(same).expect("bounds of every label")
        };
        let entered = inside(&|n| of(n).entered, label.entered);
        let (left, kept) = (inside(&|n| of(n).left, label.left), inside(&|n| of(n).kept, label.kept));
        println!("{label:?}: entered in {entered}, left in {left}, kept in {kept}");
        assert!(
            entered >= 185 && left >= 185 && kept >= 185,
            "{label:?}: {entered}, {left}, {kept} of {RUNS}"
        );
    }
    println!("changed {} in {changed}", truth.changed_keys);
    // All keys looked at: it is the truth.
    let (all, _) = sampled::preview(&reader, file, ("payer", 2), (100_000, 1)).unwrap();
    assert_eq!(
        (all.preview.changed_keys, all.preview.labels.iter().map(|l| l.entered).sum::<u64>()),
        (truth.changed_keys, truth.labels.iter().map(|l| l.entered).sum::<u64>())
    );
}
