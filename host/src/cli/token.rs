//! `retag token create|ls|revoke`: who may ask the host over the network. The owner of the state directory makes the first
//! token, running or stopped; an admin's token makes further ones from anywhere.

use super::ask::{Asker, segment};
use super::place::{Common, PlaceArgs};
use super::print::{Form, Out, Table, or_dash};
use crate::api::Role;
use crate::api::access::{About, NewToken};
use crate::api::tokens::{NewTokenRequest, Tokens};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a token and print it: it is shown this once.
    Create {
        /// What it allows.
        #[arg(long, value_enum)]
        role: Role,
        /// What people call it.
        #[arg(long, default_value = "")]
        name: String,
        /// When it ends by itself, for example 90m, 12h, 30d; default: it does not.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u32>,
        /// Form of the answer; as a table only the token itself is on standard output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// List all tokens that were ever made.
    Ls {
        #[command(flatten)]
        common: Common,
    },
    /// Take a token's rights away, at once and for good.
    Revoke {
        /// Its id, from `ls`.
        id: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Reads `30d`: a number and s, m, h, d or w.
fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || "write a number and s, m, h, d or w, for example 30d; at most ten years".to_owned();
    let (at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let number: u64 = text.get(..at).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(unit).filter(|s| (1..=315_360_000).contains(s)).ok_or_else(wrong)?;
    u32::try_from(seconds).map_err(|_| wrong())
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = Out::new();
    match &args.what {
        What::Create { role, name, expires, output, place } => {
            let request = NewTokenRequest { role: *role, name: name.clone(), expires_s: *expires };
            let made: NewToken = Asker::open(place)?.write("/v1/tokens", &request)?;
            if *output == Form::Table {
                out.line(&made.token)?;
                let ends = made.about.expires.as_deref().unwrap_or("never ends by itself");
                eprintln!("retag: token {}, {}, {ends}; it is shown this once", made.about.id, role.name());
            } else {
                out.json(&made, *output)?;
            }
        }
        What::Ls { common: Common { output, place } } => {
            let answer: Tokens = Asker::open(place)?.read("/v1/tokens")?;
            match output {
                Form::Table => table(&answer.tokens, &mut out)?,
                Form::Json => out.json(&answer, Form::Json)?,
                Form::Ndjson => answer.tokens.iter().try_for_each(|t| out.json(t, Form::Ndjson))?,
            }
        }
        What::Revoke { id, place } => {
            let path = format!("/v1/tokens/{}/revoke", segment(id));
            let about: About = Asker::open(place)?.write(&path, &())?;
            out.line(&format!("token {} is revoked", about.id))?;
        }
    }
    out.flush()
}

fn table(tokens: &[About], out: &mut Out) -> anyhow::Result<()> {
    let mut table = Table::new(["ID", "NAME", "ROLE", "STATE", "CREATED", "BY", "EXPIRES"]);
    for token in tokens {
        table.row([
            token.id.clone(),
            or_dash(Some(token.name.as_str()).filter(|name| !name.is_empty())),
            token.role.name().to_owned(),
            token.state.clone(),
            token.created.clone(),
            token.created_by.clone(),
            or_dash(token.expires.as_deref()),
        ]);
    }
    table.print(out)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, expect) in
            [("30d", 2_592_000), ("90m", 5_400), ("1s", 1), ("2w", 1_209_600), ("12h", 43_200)]
        {
            assert_eq!(seconds(text), Ok(expect), "{text}");
        }
        for wrong in ["", "d", "30", "-1d", "0s", "1y", "99999999999999999999d", "11000d", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
