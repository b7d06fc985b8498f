//! Where a text of messages can be cut without parting a transaction (against labels that flicker).

/// Offset behind the last line that carries `"commit":true`; `None` where none does.
///
/// Best effort: a message that spells it another way is cut behind its line like any other.
#[must_use]
pub fn transaction(lines: &[u8]) -> Option<usize> {
    let commit = memchr::memmem::rfind(lines, b"\"commit\":true")?;
    let end = memchr::memchr(b'\n', lines.get(commit..)?)?;
    Some(commit + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_behind_its_last_transaction() {
        let text = b"{\"xid\":1,\"commit\":true}\n{\"xid\":2}\n{\"xid\":2,\"commit\":true}\n{\"xid\":3}\n";
        assert_eq!(transaction(text), Some(text.len() - 10));
        assert_eq!(transaction(b"{\"xid\":3}\n"), None);
    }
}
