//! The route by which a recompiled rule keeps the sums that are there: both files' `map` are given the last images of the
//! sources and made-up ones, and one image that they disagree on refuses it.

use super::error::ApiError;
use super::reader::Reader;
use super::release::known;
use super::release_routes::{Work, accepted, apart, code, engine};
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Named};
use super::write::Write;
use crate::decode::{Decoded, ImageBatch};
use crate::pipeline::recorded::{IMAGES_PER_TABLE, images};
use crate::pipeline::rules::stored::stored_map;
use crate::registry::command::{Command, Done};
use crate::registry::{Compared, Namespace, Refusal};
use crate::rule::{Comparison, CompiledRule, RuleError};
use crate::source::{Block, Partition, SourceError};
use axum::extract::Path;
use std::sync::Arc;

/// Made-up images of one seed.
const MADE_UP: usize = 1_000;

/// The route.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/rules/{rule}/revisions/{revision}/adopt", Access::Role(Role::Admin), adopt)
            .named(
                "adoptAggregates",
                "Prepares a recompiled revision on the live one's sums, if both count the same. Needs a reason.",
            )
            .writes()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[
                (404, "unknown-rule"),
                (404, "unknown-revision"),
                (409, "not-adoptable"),
                (409, "operation-under-way"),
                (409, "rule-paused"),
                (409, "history-gone"),
                (409, "no-history"),
                (409, "entity-changed"),
                (409, "label-taken"),
                (409, "too-many-revisions"),
                (409, "managed-by-config"),
                (422, "rule-refused"),
                (503, "busy"),
                (503, "stopping"),
            ]),
    ]
}

async fn adopt(wish: Result<Write, ApiError>, path: Named<(String, u32)>) -> Answer {
    let (wish, Path((rule, number))) = (wish?, path?);
    let work = move |work: Work| {
        if work.asker.why.is_empty() {
            let message = "reason: say why the sums may be kept, as in `?reason=compiler update`";
            return Err(ApiError::BadRequest(message.into()));
        }
        let reader = &work.reader;
        let revision = known(reader, &rule, number)?;
        let code = code(reader, revision, &revision.given)?.code();
        let mut compared = Compared::default();
        if let Some(namespace) = reader.registry.adoptable(&rule, number)? {
            compared = compare(reader, &namespace, &code.compiled, (&rule, number))?;
        }
        work.submit(Command::Adopt { rule, revision: number, compared }, Some(code))
    };
    wish.once(&[], |api, asker| async move { accepted(&apart(&api, asker, work).await?) }).await
}

/// Gives both the same images; how many.
fn compare(
    reader: &Reader,
    namespace: &Namespace,
    new: &Arc<CompiledRule>,
    (rule, revision): (&str, u32),
) -> Result<Compared, ApiError> {
    let internal = |error: RuleError| ApiError::Internal(error.to_string());
    let not = |why: String| ApiError::from(Refusal::NotAdoptable { rule: rule.to_owned(), revision, why });
    let old = stored_map(&engine(reader)?, &reader.view, namespace)?;
    let mut comparison = Comparison::new(&old, new).map_err(internal)?;
    let tables = &old.manifest.tables;
    let mut compared = Compared::default();
    let (mut differs, mut failed) = (None, None);
    let sources: Vec<_> = reader.about.sources.iter().map(|s| (s.name.as_str(), &s.config)).collect();
    let partitions = (sources.as_slice(), reader.positions.partitions.as_slice());
    let mut take = |partition: &Partition, block: &Block, decoded: &Decoded, batch: &ImageBatch| {
        compared.recorded += batch.sides.len() as u64;
        match comparison.images(batch.table, batch) {
            Ok(None) => return true,
            Ok(Some((row, about))) => {
                let change = batch.changes.get(row).and_then(|n| decoded.changes.get(*n as usize));
                let place = partition.place(block.places()(change.map_or(0, |change| change.position)));
                let table = tables.get(batch.table).map_or("", |t| t.table.as_str());
                differs = Some(format!("an image of {table} in {place}: {about}"));
            }
            Err(error) => failed = Some(error),
        }
        false
    };
    let read = images(&reader.about.folder, partitions, &old.manifest, &mut take);
    read.map_err(|error: SourceError| not(format!("its source cannot be read back: {error}")))?;
    if let Some(error) = failed {
        return Err(internal(error));
    }
    if let Some(differs) = differs {
        return Err(not(format!("both `map` disagree on {differs}")));
    }
    for (table, declared) in tables.iter().enumerate() {
        for seed in 0..IMAGES_PER_TABLE / MADE_UP as u64 {
            if let Some(about) = comparison.made_up(table, MADE_UP, seed).map_err(internal)? {
                return Err(not(format!(
                    "both `map` disagree on a made-up image of {}: {about}",
                    declared.table
                )));
            }
            compared.made_up += MADE_UP as u64;
        }
    }
    Ok(compared)
}
