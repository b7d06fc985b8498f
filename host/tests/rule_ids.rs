//! Namespace ids of rule `payer` under edits of its source, each built as a user builds it: ten that leave the map side
//! alone keep the id, so a swap needs no history; ten that change it give ten others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use retag_host::cli::rule::{build, init};
use retag_host::rule::Limits;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = include_str!("../../rules/payer/src/lib.rs");
const CARGO_TOML: &str = "Cargo.toml";

/// What to replace with what in the source, in order; or in the manifest of the package.
type Edit = &'static [(&'static str, &'static str)];

const LABEL_SIDE: [(&str, Edit); 10] = [
    ("a threshold", &[("lit(\"2000.00\")", "lit(\"1500.00\")")]),
    ("a default", &[("default = \"5000.00\"", "default = \"6000.00\"")]),
    (
        "a new label",
        &[
            (
                "    /// By what was spent",
                "    /// Paid twice.\n    regular: bool,\n    /// By what was spent",
            ),
            (
                "            tier: Tier::of",
                "            regular: sums.paid_orders >= 2,\n            tier: Tier::of",
            ),
        ],
    ),
    (
        "a renamed label",
        &[
            ("    refunder: bool", "    returner: bool"),
            ("            refunder: sums", "            returner: sums"),
        ],
    ),
    (
        "a renamed value",
        &[("    Silver,", "    Bronze,"), ("_MIN => Some(Tier::Silver)", "_MIN => Some(Tier::Bronze)")],
    ),
    (
        "a new parameter",
        &[
            ("struct Params {", "struct Params {\n    #[param(default = 1)]\n    refunds_min: i64,"),
            ("sums.refunded > 0", "sums.refunded >= params.refunds_min"),
        ],
    ),
    (
        "a new helper",
        &[
            (
                "#[derive(Labels",
                "fn is_big(spent: Decimal<2>, min: Decimal<2>) -> bool {\n    spent >= min\n}\n\n#[derive(Labels",
            ),
            ("sums.spent >= params.big_spender_min", "is_big(sums.spent, params.big_spender_min)"),
        ],
    ),
    (
        "a comment above `map`",
        &[("    fn map_order", "    // What an order is worth.\n    //\n    fn map_order")],
    ),
    ("the description", &[("Who pays, how much, and who takes it back", "Payers")]),
    (
        "the order of labels",
        &[
            ("    /// Registered, and no order is paid.\n    never_paid: bool,\n", ""),
            ("    refunder: bool,", "    refunder: bool,\n    never_paid: bool,"),
        ],
    ),
];

/// Those after which the label side is what it was: a default is a parameter, and compared as one.
const SAME_LABELS: [&str; 4] = ["a comment above `map`", "a new helper", "a default", "the description"];

const MAP_SIDE: [(&str, Edit); 10] = [
    ("a constant", &[("1..=3 =>", "1..=4 =>")]),
    ("a branch", &[("6 => add.refunded", "5 => add.refunded")]),
    ("a table", &[("shop.orders\",", "shop.baskets\",")]),
    (
        "a key",
        &[
            ("table = \"shop.orders\", key = user_id", "table = \"shop.orders\", key = payee_id"),
            ("struct Order {\n", "struct Order {\n    payee_id: u64,\n"),
        ],
    ),
    (
        "a column's type",
        &[("    merchant_id: i64", "    merchant_id: u64"), ("Distinct<i64>", "Distinct<u64>")],
    ),
    (
        "a column's scale",
        &[
            ("    amount: Decimal<2>", "    amount: Decimal<3>"),
            ("Sum<Decimal<2>>", "Sum<Decimal<3>>"),
            (
                "            big_spender: sums.spent >= params.big_spender_min",
                "            big_spender: sums.spent >= Decimal::lit(\"5000.000\")",
            ),
            ("            tier: Tier::of(sums.spent)", "            tier: None"),
        ],
    ),
    (
        "one column more",
        &[
            ("    state: i64", "    coupon_id: Option<i64>,\n    state: i64"),
            ("1..=3 =>", "1..=3 if order.coupon_id.is_none() =>"),
        ],
    ),
    (
        "an aggregate's kind",
        &[
            ("    refunded: Count", "    refunded: Any"),
            ("add.refunded.one()", "add.refunded.yes()"),
            ("sums.refunded > 0", "sums.refunded"),
        ],
    ),
    (
        "one aggregate more",
        &[
            ("    registered: Any,", "    registered: Any,\n    orders: Count,"),
            ("        match order.state", "        add.orders.one();\n        match order.state"),
        ],
    ),
    (
        "the order of aggregates",
        &[
            ("    paid_orders: Count,\n", ""),
            ("    refunded: Count,", "    refunded: Count,\n    paid_orders: Count,"),
        ],
    ),
];

fn edited(text: &str, what: &str, edit: Edit) -> String {
    edit.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{what}: `{from}`");
        text.replace(from, to)
    })
}

/// Namespace id and label id of the crate in `folder`.
fn ids(folder: &Path, what: &str) -> (String, String) {
    let built = build::build(folder, None).unwrap_or_else(|error| panic!("{what}: {error:#}"));
    (built.file.namespace_id(&Limits::default(), ""), built.file.label_id())
}

fn new_crate(folder: &Path) {
    init::init(folder).unwrap();
    fs::write(folder.join("src/lib.rs"), SOURCE).unwrap();
}

#[test]
fn label_side_edits_keep_the_namespace_and_map_side_edits_never_do() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("payer");
    new_crate(&home);
    let (namespace, label) = ids(&home, "payer");
    let of = |what: &str, edit: Edit| {
        fs::write(home.join("src/lib.rs"), edited(SOURCE, what, edit)).unwrap();
        ids(&home, what)
    };
    for (what, edit) in LABEL_SIDE {
        let (kept, other) = of(what, edit);
        assert_eq!(kept, namespace, "{what} asks for history");
        let is_the_same = SAME_LABELS.contains(&what);
        assert_eq!(other == label, is_the_same, "{what}: the label side");
    }
    let mut seen = BTreeMap::from([(namespace.clone(), "payer")]);
    for (what, edit) in MAP_SIDE {
        let (other, _) = of(what, edit);
        if let Some(known) = seen.insert(other, what) {
            panic!("{what} has the namespace of {known}: it would go on with wrong sums");
        }
    }
    // The package's version, and another place.
    fs::write(home.join("src/lib.rs"), SOURCE).unwrap();
    let manifest = fs::read_to_string(home.join(CARGO_TOML)).unwrap();
    fs::write(
        home.join(CARGO_TOML),
        edited(&manifest, "the version", &[("version = \"0.1.0\"", "version = \"0.2.0\"")]),
    )
    .unwrap();
    assert_eq!(ids(&home, "the version").0, namespace, "the version asks for history");
    let away = folder.path().join("another/place/payer");
    new_crate(&away);
    assert_eq!(ids(&away, "another place"), (namespace.clone(), label.clone()));
    // The SDK beside the rule; then the rule deep in a workspace, whose root holds the SDK.
    let beside = folder.path().join("beside/payer");
    new_crate(&beside);
    move_sdk(&beside, "../vendor");
    assert_eq!(ids(&beside, "the SDK one folder up"), (namespace.clone(), label.clone()));
    let member = folder.path().join("workspace/rules/of/payer");
    new_crate(&member);
    move_sdk(&member, "../../../sdk");
    fs::remove_file(member.join("Cargo.lock")).unwrap();
    let root = "[workspace]\nresolver = \"3\"\nmembers = [\"rules/of/payer\"]\nexclude = [\"sdk\"]\n";
    fs::write(folder.path().join("workspace").join(CARGO_TOML), root).unwrap();
    assert_eq!(ids(&member, "a member of a workspace"), (namespace.clone(), label.clone()));
    // What comes from a registry, vendored beside it; and another profile for it.
    let apart = folder.path().join("apart/payer");
    new_crate(&apart);
    vendor_registry(&apart, "../crates");
    let manifest = fs::read_to_string(apart.join(CARGO_TOML)).unwrap();
    let profile = "\n[profile.release.package.\"*\"]\nopt-level = 1\noverflow-checks = true\n";
    fs::write(apart.join(CARGO_TOML), manifest + profile).unwrap();
    assert_eq!(ids(&apart, "vendored crates with a profile of their own"), (namespace, label));
    let module = fs::read(apart.join("payer.wasm")).unwrap();
    let place = folder.path().to_str().unwrap().as_bytes();
    assert!(
        !module.windows(place.len()).any(|window| window == place),
        "a path of the machine is in the file"
    );
}

/// Takes crates of the registry from a folder, `to` as seen from the crate.
fn vendor_registry(home: &Path, to: &str) {
    let vendor = Command::new("cargo").args(["vendor", to]).current_dir(home).output().unwrap();
    assert!(vendor.status.success(), "{}", String::from_utf8_lossy(&vendor.stderr));
    fs::create_dir(home.join(".cargo")).unwrap();
    fs::write(home.join(".cargo/config.toml"), vendor.stdout).unwrap();
}

/// Moves what `init` put into the crate's folder `vendor`; `to` is seen from the crate.
fn move_sdk(home: &Path, to: &str) {
    fs::create_dir_all(home.join(to).parent().unwrap()).unwrap();
    fs::rename(home.join("vendor"), home.join(to)).unwrap();
    let manifest = fs::read_to_string(home.join(CARGO_TOML)).unwrap();
    fs::write(home.join(CARGO_TOML), manifest.replace("vendor", to)).unwrap();
}
