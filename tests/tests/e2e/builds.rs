//! Rule payer with edits of its source, built by `retag rule build`.

use crate::harness::{binary, root};
use std::collections::BTreeMap;
use std::process::Command;

const COUNTED: &str =
    "                add.paid_orders.one();\n                add.spent.add(order.amount);\n";
const TURNED: &str = "                add.spent.add(order.amount);\n                add.paid_orders.one();\n";

/// Edits of rule payer's source, by name.
pub(crate) const BUILDS: [(&str, &[(&str, &str)]); 6] = [
    ("payer", &[]),
    ("again", &[(COUNTED, TURNED), ("lit(\"2000.00\")", "lit(\"1000.00\")")]),
    ("third", &[(COUNTED, TURNED), ("lit(\"2000.00\")", "lit(\"1200.00\")")]),
    ("other", &[("1..=3 =>", "1..=3 if order.merchant_id != 7_777 =>")]),
    (
        "picky",
        &[(
            "        Tags {\n            never",
            "        assert!(sums.spent != Decimal::lit(\"4000.00\"));\n        Tags {\n            never",
        )],
    ),
    ("more", &[("    registered: Any,", "    registered: Any,\n    orders: Count,")]),
];

/// Builds those of [`BUILDS`] that are named, by name; cargo takes the time that it needs.
pub(crate) fn build(names: &[&str]) -> BTreeMap<&'static str, Vec<u8>> {
    let dir = tempfile::tempdir().expect("a directory");
    let retag = |args: &[&str]| {
        let done = Command::new(binary()).args(args).current_dir(dir.path()).output().expect("it starts");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    retag(&["rule", "init", "payer"]);
    let source = std::fs::read_to_string(root().join("rules/payer/src/lib.rs")).expect("the rule's source");
    let build = |(name, edits): (&'static str, &[(&str, &str)])| {
        let edited = edits.iter().fold(source.clone(), |source, (from, to)| {
            assert_eq!(source.matches(from).count(), 1, "`{from}`");
            source.replace(from, to)
        });
        std::fs::write(dir.path().join("payer/src/lib.rs"), edited).expect("a file");
        retag(&["rule", "build", "payer", "-o", "built.wasm"]);
        (name, std::fs::read(dir.path().join("built.wasm")).expect("the built file"))
    };
    BUILDS.into_iter().filter(|(name, _)| names.contains(name)).map(build).collect()
}
