//! Values of one image as the message spells them: for people who look at an image that a rule refused. Off the hot
//! path, and as lenient as can be: what cannot be found is none.

use super::strict::{Envelope, readable};
use crate::decode::Side;

/// The JSON text of each of `columns` in one image of a message; none where the image does not carry it.
pub(in crate::decode) fn tokens(line: &[u8], side: Side, columns: &[&str]) -> Vec<Option<String>> {
    let text = readable(line);
    let message = Envelope::read(&text).ok().flatten();
    let object = |name: &str| message.as_ref()?.get(name).and_then(|object| Envelope::read(object).ok()?);
    let data = object("data");
    let old = if side == Side::Before { object("old") } else { None };
    let token = |name: &&str| {
        let of_old = old.as_ref().and_then(|old| old.token(name));
        of_old.or_else(|| data.as_ref()?.token(name)).map(str::to_owned)
    };
    columns.iter().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, side: Side, expect: [Option<&str>; 3]) {
        let found = tokens(line.as_bytes(), side, &["a", "b", "c"]);
        assert_eq!(found, expect.map(|token| token.map(str::to_owned)), "{line}");
    }

    #[test]
    fn an_image_is_spelled_as_in_the_message() {
        let update = r#"{"type":"update","data":{"a":1.50,"b":"x\"y","d":7},"old":{"a":null,"c":[1]}}"#;
        check(update, Side::After, [Some("1.50"), Some(r#""x\"y""#), None]);
        check(update, Side::Before, [Some("null"), Some(r#""x\"y""#), Some("[1]")]);
        check(r#"{"type":"delete","data":{"a":1}}"#, Side::Before, [Some("1"), None, None]);
        for nothing in ["", "null", "{", "[]", r#"{"data":null}"#, r#"{"data":7,"old":"x"}"#] {
            check(nothing, Side::Before, [None; 3]);
        }
    }
}
