//! Tokens over a real file: made, used, revoked, torn, restored, spoiled.

use super::*;
use std::fs;

fn holder(file: &AccessFile, text: &str) -> Result<Role, TokenFault> {
    file.find(text.as_bytes()).map(|caller| caller.role().unwrap())
}

#[test]
fn a_token_opens_until_it_is_revoked_and_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = AccessFile::open(dir.path()).unwrap();
    let one = file.create(&Caller::Owner, Role::Viewer, "coupons", None).unwrap();
    let two = file.create(&Caller::Owner, Role::Admin, "", None).unwrap();
    assert_eq!(one.token.len(), "retag_".len() + 12 + 1 + 43);
    assert_eq!(holder(&file, &one.token), Ok(Role::Viewer));
    assert_eq!(holder(&file, &two.token), Ok(Role::Admin));
    let by = file.find(two.token.as_bytes()).unwrap();
    assert_eq!(file.revoke(&by, &one.about.id).unwrap().state, "revoked");
    assert_eq!(holder(&file, &one.token), Err(TokenFault::Revoked));
    drop(file);
    let file = AccessFile::open(dir.path()).unwrap();
    assert_eq!(holder(&file, &one.token), Err(TokenFault::Revoked));
    assert_eq!(holder(&file, &two.token), Ok(Role::Admin));
    let all = file.all();
    assert_eq!(all.iter().map(|t| t.state.as_str()).collect::<Vec<_>>(), ["revoked", "valid"]);
    assert_eq!(all[0].revoked_by.as_deref(), Some(format!("token {}", two.about.id).as_str()));
}

#[test]
fn the_file_is_the_owners_and_holds_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = AccessFile::open(dir.path()).unwrap();
    let made = file.create(&Caller::Owner, Role::Viewer, "x", None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let secret = made.token.splitn(3, '_').nth(2).unwrap();
    assert!(!text.contains(secret) && text.contains("\"event\":\"created\""), "{text}");
}

#[test]
fn tokens_that_were_never_made_are_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let file = AccessFile::open(dir.path()).unwrap();
    let made = file.create(&Caller::Owner, Role::Viewer, "", None).unwrap();
    let mut other = made.token.clone();
    let last = if other.pop() == Some('A') { 'E' } else { 'A' };
    other.push(last);
    for text in ["", "retag_", "retag_000000000000_x", &other, &made.token[..made.token.len() - 1]] {
        assert_eq!(holder(&file, text), Err(TokenFault::Unknown), "{text}");
    }
    // The stored hash itself opens nothing.
    let stored = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    let hash = stored.split("\"sha256\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(holder(&file, hash).is_err());
    assert!(holder(&file, &format!("retag_{}_{hash}", made.about.id)).is_err());
}

#[test]
fn a_token_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = AccessFile::open(dir.path()).unwrap();
    let made = file.create(&Caller::Owner, Role::Viewer, "", Some(-1)).unwrap();
    assert_eq!(holder(&file, &made.token), Err(TokenFault::Expired));
    assert_eq!(file.all()[0].state, "expired");
}

#[test]
fn a_torn_last_line_is_cut_and_the_next_event_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let file = AccessFile::open(dir.path()).unwrap();
    let kept = file.create(&Caller::Owner, Role::Viewer, "kept", None).unwrap();
    let torn = file.create(&Caller::Owner, Role::Admin, "torn", None).unwrap();
    drop(file);
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for end in first + 1..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let file = AccessFile::open(dir.path()).unwrap();
        assert_eq!(holder(&file, &kept.token), Ok(Role::Viewer));
        assert_eq!(holder(&file, &torn.token), Err(TokenFault::Unknown));
        assert_eq!(fs::metadata(&path).unwrap().len(), first as u64);
    }
    let file = AccessFile::open(dir.path()).unwrap();
    let next = file.create(&Caller::Owner, Role::Admin, "next", None).unwrap();
    drop(file);
    assert_eq!(holder(&AccessFile::open(dir.path()).unwrap(), &next.token), Ok(Role::Admin));
}

#[test]
fn lines_that_do_not_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let made = "{\"event\":\"revoked\",\"id\":\"x\",\"time_us\":1,\"by\":\"me\"}\n";
    for (text, said) in
        [("nonsense\n", "line 1"), ("{\"event\":\"widened\"}\n", "line 1"), (made, "never made")]
    {
        fs::write(&path, text).unwrap();
        let error = AccessFile::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(FILE_NAME), "{error}");
    }
}

#[test]
fn a_place_without_a_directory_knows_no_token() {
    let file = AccessFile::none();
    assert!(file.create(&Caller::Owner, Role::Viewer, "", None).is_err());
    assert!(file.find(b"retag_000000000000_").is_err());
    assert!(file.all().is_empty());
}
