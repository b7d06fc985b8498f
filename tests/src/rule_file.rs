//! Rule files that differ from a built one in what their manifest says, without a compiler.
//!
//! The manifest stands in the file as JSON, twice in a file of two modules. It is written anew in the same length, so that
//! nothing around it moves.

use serde_json::{Value, json};

const BEGIN: &[u8] = br#"{"abi":"retag_1""#;

/// The rule file with a manifest that `change` has changed; it may grow by as much as the description is long.
///
/// # Panics
/// When the file has no manifest, or the new one is too long.
#[must_use]
pub fn changed(file: &[u8], change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut changed = file.to_vec();
    let found: Vec<usize> = (0..file.len()).filter(|at| file[*at..].starts_with(BEGIN)).collect();
    assert!(!found.is_empty(), "no manifest in the rule file");
    for at in found {
        let mut read = serde_json::Deserializer::from_slice(&file[at..]).into_iter::<Value>();
        let mut manifest = read.next().expect("a manifest").expect("JSON");
        let length = read.byte_offset();
        manifest["description"] = json!("");
        change(&mut manifest);
        let mut text = serde_json::to_vec(&manifest).expect("JSON");
        assert!(text.len() <= length, "{} bytes of manifest where there were {length}", text.len());
        text.resize(length, b' ');
        changed[at..at + length].copy_from_slice(&text);
    }
    changed
}

/// Rule payer with the map side [`crate::model::MapSide::Baskets`]: other columns where it reads merchant and state.
///
/// # Panics
/// As [`changed`].
#[must_use]
pub fn baskets(payer: &[u8]) -> Vec<u8> {
    changed(payer, |manifest| {
        for column in manifest["tables"][1]["columns"].as_array_mut().expect("columns") {
            let other = match column["name"].as_str() {
                Some("merchant_id") => "order_id",
                Some("state") => "quantity",
                _ => continue,
            };
            column["name"] = other.into();
        }
    })
}
