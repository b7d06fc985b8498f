//! Guests written as text: one good rule, and the same rule with an attack put into it.
//!
//! The rule: table `shop.t` (k u64 = key, v i64); per row `n` counts 1 and `total` sums v; every key carries `seen`.
//! An attack in a row runs where v = 666, so that the other rows of the batch must stay exact.

/// Where an attack goes.
#[derive(Clone, Copy)]
pub(crate) enum Attack {
    /// Statements of `map`, run after its loop if one row had v = 666; `$o` is the end of the records.
    Row(&'static str),
    /// As `Row`, in a rule whose keys are text.
    TextRow(&'static str),
    /// Statements of `label`, run after its loop if one key's total is 666.
    Key(&'static str),
    /// A whole module in place of the rule's.
    Module(fn() -> String),
}

/// What the host must say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    /// The rule is refused by this code.
    Refused(&'static str),
    /// The row is bad by this code, the others are exact.
    BadRow(&'static str),
    /// The key fails with this code in its message, the others are exact.
    BadKey(&'static str),
}

pub(crate) struct Hostile {
    pub(crate) guest: &'static str,
    pub(crate) attacks: &'static str,
    pub(crate) attack: Attack,
    pub(crate) expect: Expect,
}

pub(crate) const MANIFEST: &str = r#"{"abi":"retag_1","name":"guest","entity":"user","version":"1.0.0","key":{"type":"u64"},
"tables":[{"table":"shop.t","key":"k","columns":[{"name":"k","is":{"type":"u64"}},{"name":"v","is":{"type":"i64"}}]}],
"aggregates":[{"id":0,"name":"n","kind":"count"},{"id":1,"name":"total","kind":"sum","value":{"type":"i64"}}],
"labels":[{"name":"seen"},{"name":"tier","values":["silver","gold"]}]}"#;

const MAP: &str = r#"(func (export "map") (param $p i32) (param $l i32) (result i64)
  (local $n i32) (local $i i32) (local $o i32) (local $v i32) (local $hit i32) (local $x i64)
  (local.set $n (i32.load (i32.add (local.get $p) (i32.const 4))))
  (local.set $v (i32.add (local.get $p) (i32.load (i32.add (local.get $p) (i32.const 48)))))
  (local.set $o (i32.const 262144))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
    (local.set $x (i64.load (i32.add (local.get $v) (i32.mul (local.get $i) (i32.const 8)))))
    (if (i64.eq (local.get $x) (i64.const 666)) (then (local.set $hit (i32.const 1))))
    (i32.store (local.get $o) (local.get $i))
    (i32.store offset=4 (local.get $o) (i32.const 0))
    (i64.store offset=8 (local.get $o) (i64.const 1))
    (i32.store offset=16 (local.get $o) (local.get $i))
    (i32.store offset=20 (local.get $o) (i32.const 1))
    (i64.store offset=24 (local.get $o) (local.get $x))
    (local.set $o (i32.add (local.get $o) (i32.const 32)))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $next)))
  (i32.store (i32.const 256) (i32.const 262144))
  (i32.store (i32.const 260) (i32.sub (local.get $o) (i32.const 262144)))
  (i64.store (i32.const 264) (i64.const 0))
  (i64.store (i32.const 272) (i64.const 0))
  (if (local.get $hit) (then ATTACK_ROW))
  (i64.const 103079215360))"#;

const LABEL: &str = r#"(func (export "label") (param $p i32) (param $l i32) (result i64)
  (local $n i32) (local $i i32) (local $v i32) (local $hit i32)
  (local.set $n (i32.load (local.get $p)))
  (local.set $v (i32.add (local.get $p) (i32.load (i32.add (local.get $p) (i32.const 64)))))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
    (if (i64.eq (i64.load (i32.add (local.get $v) (i32.mul (local.get $i) (i32.const 16)))) (i64.const 666))
      (then (local.set $hit (i32.const 1))))
    (i32.store16 (i32.add (i32.const 327680) (i32.mul (local.get $i) (i32.const 4))) (i32.const 1))
    (i32.store16 (i32.add (i32.const 327682) (i32.mul (local.get $i) (i32.const 4))) (i32.const 0))
    (i64.store (i32.add (i32.const 393216) (i32.mul (local.get $i) (i32.const 8))) (i64.const 9223372036854775807))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $next)))
  (i32.store (i32.const 320) (i32.const 327680))
  (i32.store (i32.const 324) (i32.mul (local.get $n) (i32.const 4)))
  (i32.store (i32.const 328) (i32.const 393216))
  (i32.store (i32.const 332) (i32.mul (local.get $n) (i32.const 8)))
  (if (local.get $hit) (then ATTACK_KEY))
  (i64.const 68719477056))"#;

const IMPORTS: &str = r#"(import "retag_1" "log" (func $log (param i32 i32 i32)))
(import "retag_1" "fail" (func $fail (param i32 i32)))"#;
const REST: &str = r#"(memory (export "memory") 8)
(func (export "reserve") (param i32) (result i32) (i32.const 65536))
(func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
(global $state (mut i64) (i64.const 0))
(data (i32.const 512) "a message for people")"#;

fn manifest_section(manifest: &str) -> String {
    let escaped: String = manifest.bytes().map(|b| format!("\\{b:02x}")).collect();
    format!("(@custom \"retag_1\" (after last) \"{escaped}\")")
}

fn module(imports: &str, rest: &str, map: &str, label: &str, manifest: &str) -> String {
    let map = map.replace("ATTACK_ROW", "");
    let label = label.replace("ATTACK_KEY", "");
    format!("(module {imports} {rest} {map} {label} {})", manifest_section(manifest))
}

/// The good rule.
pub(crate) fn good() -> String {
    module(IMPORTS, REST, MAP, LABEL, MANIFEST)
}

/// The good rule with other manifest, columns and all.
pub(crate) fn with_manifest(manifest: &str) -> String {
    module(IMPORTS, REST, MAP, LABEL, manifest)
}

impl Hostile {
    pub(crate) fn wasm(&self) -> Vec<u8> {
        let text = match self.attack {
            Attack::Row(code) => module(IMPORTS, REST, &MAP.replace("ATTACK_ROW", code), LABEL, MANIFEST),
            Attack::TextRow(code) => {
                let manifest = MANIFEST.replace(r#""type":"u64""#, r#""type":"text""#);
                module(IMPORTS, REST, &MAP.replace("ATTACK_ROW", code), LABEL, &manifest)
            }
            Attack::Key(code) => module(IMPORTS, REST, MAP, &LABEL.replace("ATTACK_KEY", code), MANIFEST),
            Attack::Module(text) => text(),
        };
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}", self.guest))
    }
}

/// A row of the table: attack in a row of `map`.
const fn row(
    guest: &'static str,
    attacks: &'static str,
    code: &'static str,
    expect: &'static str,
) -> Hostile {
    Hostile { guest, attacks, attack: Attack::Row(code), expect: Expect::BadRow(expect) }
}

const fn text_row(
    guest: &'static str,
    attacks: &'static str,
    code: &'static str,
    expect: &'static str,
) -> Hostile {
    Hostile { guest, attacks, attack: Attack::TextRow(code), expect: Expect::BadRow(expect) }
}

const fn key(
    guest: &'static str,
    attacks: &'static str,
    code: &'static str,
    expect: &'static str,
) -> Hostile {
    Hostile { guest, attacks, attack: Attack::Key(code), expect: Expect::BadKey(expect) }
}

const fn refused(
    guest: &'static str,
    attacks: &'static str,
    text: fn() -> String,
    expect: &'static str,
) -> Hostile {
    Hostile { guest, attacks, attack: Attack::Module(text), expect: Expect::Refused(expect) }
}

#[allow(clippy::too_many_lines)] // a table
pub(crate) fn rows() -> Vec<Hostile> {
    vec![
        row("endless loop", "fuel", "(loop $ever (br $ever))", "out-of-fuel"),
        row(
            "memory.fill for ever",
            "fuel of bulk instructions",
            "(loop $ever (memory.fill (i32.const 262144) (i32.const 0) (i32.const 200000)) (br $ever))",
            "out-of-fuel",
        ),
        row(
            "log flood",
            "the host's log and time",
            "(loop $ever (call $log (i32.const 1) (i32.const 512) (i32.const 20)) (br $ever))",
            "out-of-fuel",
        ),
        row("deep recursion", "stack", "(drop (call $deep (i32.const 0)))", "stack-overflow"),
        row("memory bomb", "memory cap", "(drop (memory.grow (i32.const 4000)))", "memory-limit"),
        row(
            "memory bomb by steps",
            "memory cap",
            "(loop $ever (drop (memory.grow (i32.const 64))) (br $ever))",
            "memory-limit",
        ),
        row(
            "fails with a message",
            "the message's bounds",
            "(call $fail (i32.const 512) (i32.const 20))",
            "guest-failed",
        ),
        row(
            "message outside memory",
            "the message's pointer",
            "(call $fail (i32.const -16) (i32.const 2000000000))",
            "guest-failed",
        ),
        row("unreachable", "traps", "unreachable", "guest-trap"),
        row("division by zero", "traps", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "guest-trap"),
        row("header outside memory", "output pointer", "(return (i64.const 107374182400))", "bad-length"),
        row(
            "header behind the end",
            "output pointer",
            "(return (i64.or (i64.const 103079215104) (i64.const 0xfffffff0)))",
            "bad-pointer",
        ),
        row(
            "records outside memory",
            "output pointer",
            "(i32.store (i32.const 256) (i32.const -65536))",
            "bad-pointer",
        ),
        row(
            "records longer than memory",
            "output length",
            "(i32.store (i32.const 260) (i32.const -16))",
            "bad-pointer",
        ),
        row(
            "record cut in the middle",
            "output length",
            "(i32.store (i32.const 260) (i32.add (i32.load (i32.const 260)) (i32.const 7)))",
            "bad-length",
        ),
        row(
            "row out of range",
            "row number",
            "(i32.store (i32.sub (local.get $o) (i32.const 16)) (i32.const 5000))",
            "row-out-of-range",
        ),
        row(
            "unknown aggregate",
            "aggregate id",
            "(i32.store16 (i32.sub (local.get $o) (i32.const 12)) (i32.const 2))",
            "unknown-aggregate",
        ),
        row(
            "negative count",
            "value",
            "(i64.store (i32.sub (local.get $o) (i32.const 24)) (i64.const -1))",
            "bad-value",
        ),
        row(
            "key not listed",
            "key number",
            "(i32.store16 (i32.sub (local.get $o) (i32.const 10)) (i32.const 1))",
            "unlisted-key",
        ),
        row(
            "key list with a hole",
            "key list",
            "(i32.store (i32.const 264) (i32.const 600)) (i32.store (i32.const 268) (i32.const 16))
             (i32.store (i32.const 600) (i32.const 0)) (i32.store16 (i32.const 604) (i32.const 2))
             (i32.store16 (i32.const 606) (i32.const 8))",
            "bad-key-list",
        ),
        row(
            "300 records of a row",
            "record count",
            "(local.set $i (i32.const 0))
             (loop $more
               (i32.store (local.get $o) (i32.sub (local.get $n) (i32.const 1)))
               (i32.store offset=4 (local.get $o) (i32.const 0))
               (i64.store offset=8 (local.get $o) (i64.const 1))
               (local.set $o (i32.add (local.get $o) (i32.const 16)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $more (i32.lt_u (local.get $i) (i32.const 300))))
             (i32.store (i32.const 260) (i32.sub (local.get $o) (i32.const 262144)))",
            "too-many-records",
        ),
        text_row(
            "text key that is not UTF-8",
            "key bytes",
            "(i32.store (i32.const 264) (i32.const 600))
             (i32.store (i32.const 268) (i32.const 16)) (i32.store16 (i32.const 604) (i32.const 1))
             (i32.store16 (i32.const 606) (i32.const 2)) (i64.store (i32.const 608) (i64.const 1))
             (i32.store (i32.const 272) (i32.const 640)) (i32.store (i32.const 276) (i32.const 3))
             (i32.store (i32.const 640) (i32.const 0xfffefd))",
            "key-not-utf8",
        ),
        text_row(
            "text key outside the heap",
            "heap reference",
            "(i32.store (i32.const 264) (i32.const 600))
             (i32.store (i32.const 268) (i32.const 16)) (i32.store16 (i32.const 604) (i32.const 1))
             (i32.store16 (i32.const 606) (i32.const 2)) (i64.store (i32.const 608) (i64.const -1))",
            "bad-heap-reference",
        ),
        text_row(
            "text key of 300 bytes",
            "key length",
            "(i32.store (i32.const 264) (i32.const 600))
             (i32.store (i32.const 268) (i32.const 16)) (i32.store16 (i32.const 604) (i32.const 1))
             (i32.store16 (i32.const 606) (i32.const 300))",
            "key-too-long",
        ),
        key("label trap", "traps", "unreachable", "guest-trap"),
        key("label loop", "fuel", "(loop $ever (br $ever))", "out-of-fuel"),
        key(
            "label out of range",
            "label entry",
            "(i32.store16 (i32.const 327682) (i32.const 3))",
            "label-out-of-range",
        ),
        key(
            "label sets too short",
            "output length",
            "(i32.store (i32.const 324) (i32.const 2))",
            "bad-length",
        ),
        refused("no wasm", "the parser", || "not wasm".into(), "not-wasm"),
        refused(
            "start loop",
            "fuel at start",
            || {
                module(
                    IMPORTS,
                    &format!("{REST} (func $init (loop $ever (br $ever))) (start $init)"),
                    MAP,
                    LABEL,
                    MANIFEST,
                )
            },
            "out-of-fuel",
        ),
        refused(
            "huge memory at start",
            "memory at start",
            || module(IMPORTS, &REST.replace("\"memory\") 8", "\"memory\") 512"), MAP, LABEL, MANIFEST),
            "memory-limit",
        ),
        refused(
            "reserve outside memory",
            "input pointer",
            || module(IMPORTS, &REST.replace("(i32.const 65536)", "(i32.const -64)"), MAP, LABEL, MANIFEST),
            "bad-reserve",
        ),
        refused(
            "reserve not aligned",
            "input pointer",
            || module(IMPORTS, &REST.replace("(i32.const 65536)", "(i32.const 65537)"), MAP, LABEL, MANIFEST),
            "bad-reserve",
        ),
        refused(
            "no manifest",
            "manifest",
            || good().replace("(@custom \"retag_1\"", "(@custom \"other\""),
            "no-manifest",
        ),
        refused(
            "two manifests",
            "manifest",
            || with_manifest(&format!("{MANIFEST}\n{MANIFEST}")),
            "two-manifests",
        ),
        refused("manifest not JSON", "manifest", || with_manifest("{abi: retag_1}"), "manifest-not-json"),
        refused("huge manifest", "manifest", || with_manifest(&" ".repeat(300_000)), "manifest-too-large"),
        refused(
            "aggregate ids in disorder",
            "manifest",
            || with_manifest(&MANIFEST.replace("\"id\":1", "\"id\":7")),
            "manifest-invalid",
        ),
        refused(
            "unknown kind",
            "manifest",
            || with_manifest(&MANIFEST.replace("\"sum\"", "\"median\"")),
            "unsupported-feature",
        ),
        refused(
            "clock import",
            "imports",
            || {
                module(
                    "(import \"wasi_snapshot_preview1\" \"clock_time_get\" (func $clock (param i32 i64 i32) (result i32)))",
                    REST,
                    MAP,
                    LABEL,
                    MANIFEST,
                )
            },
            "unknown-import",
        ),
        refused(
            "log of another type",
            "imports",
            || module(&IMPORTS.replace("i32 i32 i32", "i64"), REST, MAP, LABEL, MANIFEST),
            "wrong-signature",
        ),
        refused("no label export", "exports", || module(IMPORTS, REST, MAP, "", MANIFEST), "missing-export"),
        refused(
            "map of another type",
            "exports",
            || {
                module(
                    IMPORTS,
                    REST,
                    "(func (export \"map\") (param i32) (result i32) (local.get 0))",
                    LABEL,
                    MANIFEST,
                )
            },
            "wrong-signature",
        ),
        refused(
            "sums over rows",
            "purity of map",
            || {
                module(
                    IMPORTS,
                    REST,
                    &MAP.replace(
                        "(i64.store offset=24 (local.get $o) (local.get $x))",
                        "(global.set $state (i64.add (global.get $state) (i64.const 1)))
             (i64.store offset=24 (local.get $o) (global.get $state))",
                    ),
                    LABEL,
                    MANIFEST,
                )
            },
            "impure",
        ),
        refused(
            "counts calls",
            "purity of map",
            || {
                module(IMPORTS, REST, &MAP.replace("ATTACK_ROW", "").replace(
            "(i64.const 103079215360))",
            "(global.set $state (i64.add (global.get $state) (i64.const 1)))
             (if (i64.gt_u (global.get $state) (i64.const 5)) (then (i32.store (i32.const 260) (i32.const 0))))
             (i64.const 103079215360))"), LABEL, MANIFEST)
            },
            "impure",
        ),
        refused(
            "labels by place",
            "purity of label",
            || {
                module(IMPORTS, REST, MAP, &LABEL.replace(
            "(i32.store16 (i32.add (i32.const 327680) (i32.mul (local.get $i) (i32.const 4))) (i32.const 1))",
            "(i32.store16 (i32.add (i32.const 327680) (i32.mul (local.get $i) (i32.const 4)))
               (i32.and (local.get $i) (i32.const 1)))"), MANIFEST)
            },
            "impure",
        ),
    ]
}
