//! Panic locations that a module still holds: `core::panic::Location` in its data is (address of the file's name, its
//! length, line, column), four u32. A moved line would change the module although `map` means the same.

use retag_abi::bytes::u32_at;
use wasmparser::{DataKind, Operator, Parser, Payload};

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PanicLocation {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// The locations of files whose name starts with `prefix`, in order.
pub(super) fn find(module: &[u8], prefix: &str) -> anyhow::Result<Vec<PanicLocation>> {
    let segments = data_segments(module)?;
    let mut found = Vec::new();
    for (_, bytes) in &segments {
        for at in (0..bytes.len()).step_by(4) {
            let word = |n: usize| u32_at(bytes, at + n * 4);
            let (Some(address), Some(len), Some(line), Some(column)) = (word(0), word(1), word(2), word(3))
            else {
                break;
            };
            let name = text(&segments, address, len).filter(|name| name.starts_with(prefix));
            // Other words may stand behind a file's name.
            let is_place = (1..1 << 24).contains(&line) && (1..1 << 16).contains(&column);
            if let Some(file) = name.filter(|_| is_place) {
                found.push(PanicLocation { file, line, column });
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Name of a source file at `address`.
fn text(segments: &[(u32, &[u8])], address: u32, len: u32) -> Option<String> {
    if !(4..=1024).contains(&len) {
        return None;
    }
    let holds = |(start, bytes): &&(u32, &[u8])| {
        address >= *start && (address - start) as usize + len as usize <= bytes.len()
    };
    let (start, bytes) = segments.iter().find(holds)?;
    let bytes = bytes.get((address - start) as usize..)?.get(..len as usize)?;
    let name = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    name.ends_with(".rs").then(|| name.to_owned())
}

/// The data of a module with their addresses.
fn data_segments(module: &[u8]) -> anyhow::Result<Vec<(u32, &[u8])>> {
    let mut segments = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::DataSection(section) = payload? else { continue };
        for data in section {
            let data = data?;
            let DataKind::Active { offset_expr, .. } = data.kind else { continue };
            if let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? {
                segments.push((value.cast_unsigned(), data.data));
            }
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_of_the_rules_own_files_are_found() {
        let module = wat::parse_str(
            r#"(module (memory 1)
              (data (i32.const 64) "src/lib.rs\00\00vendor/sdk/src/lib.rs\00\00\00")
              (data (i32.const 128) "\40\00\00\00\0a\00\00\00\07\00\00\00\09\00\00\00\4c\00\00\00\15\00\00\00\01\00\00\00\01\00\00\00"))"#,
        )
        .unwrap();
        let place = PanicLocation { file: "src/lib.rs".into(), line: 7, column: 9 };
        assert_eq!(find(&module, "src/").unwrap(), [place]);
        assert_eq!(find(&module, "vendor/").unwrap().len(), 1);
        assert_eq!(find(&module, "other/").unwrap(), []);
    }
}
