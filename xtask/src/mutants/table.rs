//! The faults: where, what stands there, what shall stand there, and the test that must turn red.
//!
//! An entry with an empty `old` is refused: it waits for the code that it breaks.

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mutant {
    /// How a person calls it.
    pub(super) name: &'static str,
    /// File, from the root.
    pub(super) file: &'static str,
    /// Text that stands there exactly once.
    pub(super) old: &'static str,
    /// Text in its place.
    pub(super) new: &'static str,
    /// Arguments of `cargo test` that run the test.
    pub(super) test: &'static [&'static str],
}

const DECODE: &[&str] = &["-p", "retag-host", "--test", "decode_maxwell"];
const STATE: &[&str] = &["-p", "retag-host", "--test", "state_model"];
const SETS: &[&str] = &["-p", "retag-host", "--test", "state_sets"];
const SETS_LAWS: &[&str] = &["-p", "retag-tests", "--test", "laws", "a_set_"];
const LAWS: &[&str] = &["-p", "retag-tests", "--test", "laws", "any_order"];
const SWAPS: &[&str] = &["-p", "retag-tests", "--test", "swaps"];
const ACCESS: &[&str] = &["-p", "retag-host", "--test", "http_access"];
const SWEEP: &[&str] = &["-p", "retag-tests", "--test", "laws", "swept"];

/// All faults.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "touched-key-not-told-of-a-switch",
        file: "host/src/pipeline/shard/mod.rs",
        old: "self.tell_touched(context, &mut touched, &mut output);",
        new: "",
        test: SWAPS,
    },
    Mutant {
        name: "told-mark-forgotten",
        file: "host/src/pipeline/shard/sweep.rs",
        old: "t.labels.push((slot, LabelChange::Mark(0, 1)));",
        new: "",
        test: SWAPS,
    },
    Mutant {
        name: "replaced-generation-no-longer-evaluated",
        file: "host/src/registry/mod.rs",
        old: "matches!(self, Self::Sweeping | Self::Ready | Self::Retained)",
        new: "matches!(self, Self::Sweeping | Self::Ready)",
        test: SWAPS,
    },
    Mutant {
        name: "slice-beside-a-commit-in-flight",
        file: "host/src/pipeline/sweep.rs",
        old: "self.cycle.phase == Phase::Collect && !self.in_flight && self.slice.is_none()",
        new: "self.cycle.phase == Phase::Collect && self.slice.is_none()",
        test: SWAPS,
    },
    Mutant {
        name: "ids-of-the-lane-not-stored",
        file: "host/src/pipeline/lane.rs",
        old: "(0u32..).zip(std::mem::take(&mut cycle.lane_rows))",
        new: "(0u32..0).zip(std::mem::take(&mut cycle.lane_rows))",
        test: SWAPS,
    },
    Mutant {
        name: "lane-does-not-ask-its-ledger",
        file: "host/src/pipeline/track.rs",
        old: "if reader.contains(&id) {",
        new: "if !self.lane && reader.contains(&id) {",
        test: SWAPS,
    },
    Mutant {
        name: "ids-of-a-voided-cycle-stay-in-the-lane",
        file: "host/src/pipeline/worker.rs",
        old: "self.tracks().for_each(|track| track.withdraw(&task));",
        new: "self.live.withdraw(&task);",
        test: SWAPS,
    },
    Mutant {
        name: "fence-where-the-stream-reads",
        file: "host/src/pipeline/command.rs",
        old: "self.partitions.iter().map(|p| p.applied)",
        new: "self.partitions.iter().map(|p| p.next)",
        test: SWAPS,
    },
    Mutant {
        name: "filled-when-one-partition-is",
        file: "host/src/pipeline/lane.rs",
        old: "self.partitions.iter().all(|p| p.applied >= p.until)",
        new: "self.partitions.iter().any(|p| p.applied >= p.until)",
        test: SWAPS,
    },
    Mutant {
        name: "any-role-may-do-all",
        file: "host/src/api/caller.rs",
        old: "(_, Some(role)) if role >= needed => Ok(()),",
        new: "(_, Some(role)) if role >= Role::Viewer => Ok(()),",
        test: ACCESS,
    },
    Mutant {
        name: "revoked-tokens-count",
        file: "host/src/api/access/token.rs",
        old: "(Some(_), _) => \"revoked\",",
        new: "(Some(_), _) => \"valid\",",
        test: ACCESS,
    },
    Mutant {
        name: "sign-of-the-before-leg",
        file: "host/src/change/mod.rs",
        old: "Side::Before => Self::Minus,",
        new: "Side::Before => Self::Plus,",
        test: LAWS,
    },
    Mutant {
        name: "ledger-check-removed",
        file: "host/src/pipeline/track.rs",
        old: "if reader.contains(&id) {",
        new: "if false && reader.contains(&id) {",
        test: LAWS,
    },
    Mutant {
        name: "positions-apart-from-sums",
        file: "host/src/pipeline/coordinator.rs",
        old: "run.applied = end;",
        new: "run.applied = end.max(run.next);",
        test: LAWS,
    },
    Mutant {
        name: "nested-search-in-old",
        file: "host/src/decode/maxwell/judge.rs",
        old: "match token(&row.spans.old, *slot, row.bytes) {",
        new: "match token(&row.spans.old, *slot, row.bytes).or_else(|| {
                let name = format!(\"\\\"{}\\\":\", layout.slots.get(*slot)?);
                let data = row.spans.data.iter().map(|span| span.start as usize).min()?;
                let line = row.bytes.get(data..)?.split(|byte| *byte == b'\\n').next()?;
                let old = memchr::memmem::find(line, b\"\\\"old\\\":\")?;
                let at = memchr::memmem::find(line.get(old..)?, name.as_bytes())? + old + name.len();
                let rest = line.get(at..)?;
                rest.get(..rest.iter().position(|byte| matches!(byte, b',' | b'}'))?)
            }) {",
        test: DECODE,
    },
    Mutant {
        name: "no-op-drop-on-wrong-columns",
        file: "host/src/decode/maxwell/judge.rs",
        old: "equal &= column.last_two_equal();",
        new: "equal = column.last_two_equal();",
        test: DECODE,
    },
    Mutant {
        name: "null-read-as-absent",
        file: "host/src/decode/value.rs",
        old: "Some(b'n') => column.push_empty(Fit::Null),",
        new: "Some(b'n') => column.push_empty(Fit::Absent),",
        test: DECODE,
    },
    Mutant {
        name: "key-of-the-after-image-for-both",
        file: "host/src/pipeline/gather.rs",
        old: "key.of_row(self.rule.key, key_column, record.row);",
        new: "let row = record.row as usize;
                    let changes = &self.batch.changes;
                    let both = row > 0 && changes.get(row) == changes.get(row - 1);
                    key.of_row(self.rule.key, key_column, record.row - u32::from(both));",
        test: LAWS,
    },
    Mutant {
        name: "fold-drops-a-block",
        file: "host/src/state/fold.rs",
        old: "folded.drop_blocks(job.until);",
        new: "folded.drop_blocks(job.until + 1);",
        test: STATE,
    },
    Mutant {
        name: "rows-of-a-gone-set-stay",
        file: "host/src/state/set_rows.rs",
        old: "if !stays {",
        new: "if false && !stays {",
        test: SETS,
    },
    Mutant {
        name: "greatest-value-of-a-set-in-rows-not-found-again",
        file: "host/src/state/set_rows.rs",
        old: "max = max.max(Some(value.as_bytes().into()));",
        new: "max = None;",
        test: SETS,
    },
    Mutant {
        name: "labels-read-an-old-summary-of-a-set",
        file: "host/src/pipeline/shard/overflow.rs",
        old: "set.is_behind() || set.is_overflow()",
        new: "set.is_overflow()",
        test: SETS_LAWS,
    },
    Mutant {
        name: "overflow-leaves-its-digest",
        file: "host/src/state/block.rs",
        old: "part.wrapping_neg()",
        new: "part",
        test: SETS_LAWS,
    },
    Mutant {
        name: "outbox-cleared-before-delivery",
        file: "host/src/pipeline/assemble.rs",
        old: "let delivered = self.sinks.iter().map(|s| s.cursor).min();",
        new: "let delivered = Some(Place { commit: u64::MAX, index: 0 });",
        test: LAWS,
    },
    Mutant {
        name: "label-swept-one-commit-late",
        file: "host/src/pipeline/sweep.rs",
        old: "self.done.iter().all(|done| *done)",
        new: "self.done.iter().filter(|done| !**done).count() <= 8",
        test: SWEEP,
    },
];
