//! Messages that cannot be applied exactly under `on_refusal = "pause"`: the rules that read their table stand still in front
//! of them, all others go on; once the cause is mended a resume makes them as if nothing had happened. With crashes anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use retag_host::config::OnRefusal;
use retag_host::pipeline::failure::Failure;
use retag_host::registry::command::Command;
use retag_tests::model::Params;
use retag_tests::simulation::{
    Fate, RENAMED, Random, Rules, Script, World, assert_generations, assert_labels, registry, small_shop,
};
use std::sync::Arc;

/// An update of an order that changes columns only that the producer hides: no `old`, and an id of its own.
fn hidden(line: &[u8], n: usize) -> Option<Vec<u8>> {
    let mut message: serde_json::Value = serde_json::from_slice(line).ok()?;
    let fields = message.as_object_mut()?;
    if fields["table"] != "orders" || fields["type"] == "delete" {
        return None;
    }
    fields.remove("old");
    fields.insert("type".into(), "update".into());
    fields.insert("position".into(), format!("hidden.000001:{}", 4 + n).into());
    let mut line = serde_json::to_vec(&message).ok()?;
    line.push(b'\n');
    Some(line)
}

/// `log` with such updates behind some of its orders; how many.
fn with_hidden(log: &[u8], random: &mut Random) -> (Vec<u8>, usize) {
    let (mut out, mut added) = (Vec::new(), 0);
    for line in log.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(line);
        if random.below(40) == 0
            && let Some(line) = hidden(line, out.len())
        {
            out.extend(line);
            added += 1;
        }
    }
    (out, added)
}

#[test]
fn the_rules_that_read_the_table_stand_still_and_catch_up_once_the_cause_is_mended() {
    let (rules, script) = (Rules::load(&["payer", "red_packet"]), Script::load());
    let (mut refused, mut killed, mut paused_early) = (0, 0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut world = World::new(&small_shop(seed, 10, &mut random));
        world.cycle_bytes_max = 1_000 + random.below(20_000);
        world.on_refusal = OnRefusal::Pause;
        let clean = world.logs.clone();
        let mut added = 0;
        for n in 0..world.logs.len() {
            let (log, more) = with_hidden(&world.logs[n], &mut random);
            (world.logs[n], added) = (Arc::new(log), added + more);
        }
        for _ in 0..random.below(4) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            let fate = world.run(&rules, 20 + random.below(400), &mut random);
            killed += u32::from(matches!(fate, Fate::Killed));
            paused_early += u32::from(registry(&world.view()).is_stopped("payer"));
        }
        let before = registry(&world.view()).is_stopped("payer");
        let fate = world.run(&rules, u64::MAX, &mut random);
        match fate {
            Fate::Failed(Failure::StoodStill { rule, why }) if !before && added > 0 => {
                assert!(
                    rule == "payer" && why.starts_with("update-without-old: source shop, p"),
                    "{rule}: {why}"
                );
            }
            Fate::Ended if before || added == 0 => {}
            other => panic!("seed {seed}: {other:?}"),
        }
        refused += u32::from(added > 0);
        assert_eq!(registry(&world.view()).is_stopped("payer"), added > 0, "seed {seed}");
        let dirty = std::mem::replace(&mut world.logs, clean.clone());
        assert_labels(&world, "red_packet", &Params::default());
        world.logs = dirty;

        // Resumed too early it meets the same message again, and stands still again.
        if added > 0 && random.below(2) == 0 {
            let resume = vec![(Command::Resume { rule: "payer".into() }, None)];
            let fate = world.run_asked(&rules, u64::MAX, resume, &mut random);
            assert!(
                matches!(fate, Fate::Ended | Fate::Failed(Failure::StoodStill { .. })),
                "seed {seed}: {fate:?}"
            );
            assert!(registry(&world.view()).is_stopped("payer"), "seed {seed}");
        }
        world.hidden_columns = vec!["shop.orders".into()];
        for _ in 0..random.below(3) {
            let resume = vec![(Command::Resume { rule: "payer".into() }, None)];
            let fate = world.run_asked(&rules, 20 + random.below(300), resume, &mut random);
            killed += u32::from(matches!(fate, Fate::Killed));
        }
        let resume = vec![(Command::Resume { rule: "payer".into() }, None)];
        let fate = world.run_asked(&rules, u64::MAX, resume, &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        let at_end = registry(&world.view());
        assert!(at_end.pauses.is_empty(), "seed {seed}: {:?}", at_end.pauses);
        world.logs = clean;
        assert_generations(&world, &script.sides, RENAMED);
        assert_labels(&world, "red_packet", &Params::default());
    }
    println!("refused {refused}, killed {killed}, paused before the last run {paused_early}");
    assert!(refused >= 40 && killed >= 30 && paused_early >= 20, "{refused}, {killed}, {paused_early}");
}
