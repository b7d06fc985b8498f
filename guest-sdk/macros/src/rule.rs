//! `#[rule]`: the user's `impl` → `Rule`, `Map` and `Label`, the manifest's custom section and the exports.
//!
//! The impl is emitted as it was written; with `--cfg retag_part` each part leaves the other side's functions out, so
//! that a changed label does not change the bytes of the map module.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::Parser as _;
use syn::spanned::Spanned as _;
use syn::{
    Error, FnArg, ImplItem, ImplItemFn, ItemImpl, LitStr, PatType, Result, ReturnType, Type, parse_quote,
};

use crate::source;

/// The attribute's arguments.
struct Named {
    name: LitStr,
    entity: LitStr,
    owner: String,
    description: String,
}

/// One `map_…` function.
struct MapFn {
    ident: Ident,
    row: Type,
}

/// The `label` function: its arguments in the user's order.
struct LabelFn {
    arguments: Vec<TokenStream>,
    params: Type,
    labels: Type,
}

pub(crate) fn expand(attribute: TokenStream, mut block: ItemImpl) -> Result<TokenStream> {
    let named = arguments(attribute, &block)?;
    if let Some((_, of, _)) = &block.trait_ {
        return Err(Error::new(of.span(), "write #[rule(…)] impl Payer { … }, without a trait"));
    }
    let (mut maps, mut label) = (Vec::new(), None);
    for item in &mut block.items {
        let ImplItem::Fn(function) = item else {
            return Err(Error::new(item.span(), "only functions stand in a rule"));
        };
        let name = function.sig.ident.to_string();
        if name == "label" {
            label = Some(label_fn(function)?);
            function.attrs.push(parse_quote!(#[cfg(not(retag_part = "map"))]));
        } else if name.starts_with("map_") {
            maps.push(map_fn(function)?);
            function.attrs.push(parse_quote!(#[cfg(not(retag_part = "label"))]));
        } else {
            let message = "a rule has map_… functions and label; write helpers in an impl of their own";
            return Err(Error::new(function.sig.ident.span(), message));
        }
    }
    let me = block.self_ty.clone();
    let Some(label) = label else {
        return Err(Error::new(me.span(), "the rule has no `fn label(sums: &Sums<…>, …) -> Labels`"));
    };
    if maps.is_empty() {
        return Err(Error::new(me.span(), "the rule has no `fn map_…(row: &Row, add: &mut Add<…>)`"));
    }
    let traits = traits(&me, &named, &maps, &label);
    let exports = exports(&me);
    let native = quote! {
        /// The rule's native run, for tests of the host.
        #[cfg(not(target_family = "wasm"))]
        #[doc(hidden)]
        #[allow(unreachable_pub, dead_code)]
        #[must_use]
        pub const fn native() -> ::retag_sdk::testing::Native { ::retag_sdk::testing::Native::of::<#me>() }
    };
    Ok(quote! {
        #[allow(unexpected_cfgs)]
        #block
        #traits
        #exports
        #native
    })
}

fn arguments(attribute: TokenStream, block: &ItemImpl) -> Result<Named> {
    let (mut name, mut entity, mut owner, mut description) = (None, None, None, None);
    syn::meta::parser(|meta| {
        let place = [
            ("name", &mut name),
            ("entity", &mut entity),
            ("owner", &mut owner),
            ("description", &mut description),
        ]
        .into_iter()
        .find(|(word, _)| meta.path.is_ident(word));
        match place {
            Some((_, place)) => *place = Some(meta.value()?.parse::<LitStr>()?),
            None => return Err(meta.error("expected `name`, `entity`, `owner` or `description`")),
        }
        Ok(())
    })
    .parse2(attribute)?;
    let (Some(name), Some(entity)) = (name, entity) else {
        let message =
            "#[rule(name = \"…\", entity = \"…\")]: both are needed; the entity is what a key identifies";
        return Err(Error::new(block.self_ty.span(), message));
    };
    source::check_name(&name.value(), name.span())?;
    source::check_name(&entity.value(), entity.span())?;
    let crate_says = || std::env::var("CARGO_PKG_DESCRIPTION").unwrap_or_default();
    let text = |literal: Option<LitStr>| literal.map(|literal| literal.value());
    Ok(Named {
        name,
        entity,
        owner: text(owner).unwrap_or_default(),
        description: text(description).unwrap_or_else(crate_says),
    })
}

fn map_fn(function: &ImplItemFn) -> Result<MapFn> {
    let ident = function.sig.ident.clone();
    match function.sig.inputs.first() {
        Some(FnArg::Typed(PatType { ty, .. })) if function.sig.inputs.len() == 2 => match &**ty {
            Type::Reference(reference) => Ok(MapFn { ident, row: (*reference.elem).clone() }),
            other => Err(Error::new(other.span(), "the row comes as a reference, `&Order`")),
        },
        _ => Err(Error::new(function.sig.span(), "expected `fn map_…(row: &Row, add: &mut Add<…>)`")),
    }
}

fn label_fn(function: &ImplItemFn) -> Result<LabelFn> {
    let expected = "expected `&Sums<…>`, `&Clock` or the rule's own struct of parameters";
    let mut params: Type = parse_quote!(());
    let mut arguments = Vec::new();
    for input in &function.sig.inputs {
        let FnArg::Typed(PatType { ty, .. }) = input else { return Err(Error::new(input.span(), expected)) };
        let Type::Reference(reference) = &**ty else { return Err(Error::new(ty.span(), expected)) };
        let Type::Path(path) = &*reference.elem else { return Err(Error::new(ty.span(), expected)) };
        match path.path.segments.last() {
            Some(segment) if segment.ident == "Sums" => arguments.push(quote!(sums)),
            Some(segment) if segment.ident == "Clock" => arguments.push(quote!(clock)),
            _ => {
                params = (*reference.elem).clone();
                arguments.push(quote!(params));
            }
        }
    }
    match &function.sig.output {
        ReturnType::Type(_, labels) => Ok(LabelFn { arguments, params, labels: (**labels).clone() }),
        ReturnType::Default => {
            Err(Error::new(function.sig.ident.span(), "label returns the rule's struct of labels"))
        }
    }
}

fn traits(me: &Type, named: &Named, maps: &[MapFn], label: &LabelFn) -> TokenStream {
    let rows: Vec<_> = maps.iter().map(|map| &map.row).collect();
    let first = maps.first().map(|map| &map.row);
    let LabelFn { arguments, params, labels } = label;
    let numbers = 0_u32..;
    let calls = maps.iter().zip(numbers).map(|(MapFn { ident, row }, n)| {
        quote_spanned! {ident.span()=>
            #n => ::retag_sdk::derive::each::<#me, _>(batch, out, |row: &#row, add| <#me>::#ident(row, add)),
        }
    });
    let row_checks = rows.iter().map(|row| {
        quote_spanned! {row.span()=>
            const _: () = assert!(
                <#first as ::retag_sdk::TableRow>::KEY.same(<#row as ::retag_sdk::TableRow>::KEY),
                "all tables of a rule have one key type"
            );
        }
    });
    let manifest = manifest(me, named, &rows, label);
    quote! {
        #(#row_checks)*
        const _: () = {
            const KEY: u8 = <#first as ::retag_sdk::TableRow>::KEY.physical as u8;
            impl ::retag_sdk::Rule for #me {
                const MANIFEST: &'static str = #manifest;
                const TABLES: &'static [::retag_sdk::TableInfo] = &[#(<#rows as ::retag_sdk::TableRow>::TABLE),*];
                const KEY: ::retag_sdk::ValueType = <#first as ::retag_sdk::TableRow>::KEY;
                type Key<'k> = <::retag_sdk::derive::KeyTag<KEY> as ::retag_sdk::derive::KeyKind>::Key<'k>;
                type Params = #params;
                type Labels = #labels;
            }
        };
        // The allowance holds for what stands inside an item, not for the item's own `cfg`: hence the constant.
        #[allow(unexpected_cfgs)]
        const _: () = {
            #[cfg(not(retag_part = "label"))]
            impl ::retag_sdk::Map for #me {
                fn map(batch: &::retag_sdk::Batch<'_>, out: &::retag_sdk::Out) {
                    match batch.table { #(#calls)* _ => batch.unknown_table() }
                }
            }
            #[cfg(not(retag_part = "map"))]
            impl ::retag_sdk::Label for #me {
                #[inline]
                fn label(
                    sums: &::retag_sdk::Sums<#me>,
                    params: &#params,
                    clock: &::retag_sdk::Clock,
                ) -> #labels {
                    let _ = (params, clock);
                    <#me>::label(#(#arguments),*)
                }
            }
        };
    }
}

fn manifest(me: &Type, named: &Named, rows: &[&Type], label: &LabelFn) -> TokenStream {
    let LabelFn { params, labels, .. } = label;
    let first = rows.first();
    let head = format!(
        "{{\"abi\":\"retag_1\",\"name\":{},\"entity\":{},\"version\":\"",
        source::json(&named.name.value()),
        source::json(&named.entity.value())
    );
    let people = format!(
        "\",\"description\":{},\"owner\":{},\"key\":",
        source::json(&named.description),
        source::json(&named.owner)
    );
    let tables = rows.iter().enumerate().map(|(n, row)| {
        let comma = source::comma(n);
        quote_spanned!(row.span()=> #comma, <#row as ::retag_sdk::TableRow>::JSON)
    });
    quote! {
        ::retag_sdk::const_join!(
            #head, env!("CARGO_PKG_VERSION"), "\",\"sdk\":\"", ::retag_sdk::VERSION, #people,
            <#first as ::retag_sdk::TableRow>::KEY.json(), ",\"tables\":[", #(#tables,)* "],\"aggregates\":",
            <#me as ::retag_sdk::AggregateSet>::JSON, ",\"labels\":",
            <#labels as ::retag_sdk::LabelSet>::JSON, ",\"params\":",
            <#params as ::retag_sdk::ParamSet>::JSON, "}"
        )
    }
}

/// The custom section and the exports: in this crate, because a static of a dependency would not be linked, and without
/// `#[used]`, which would put a copy of it into linear memory.
fn exports(me: &Type) -> TokenStream {
    quote! {
        #[cfg(target_family = "wasm")]
        #[allow(unexpected_cfgs, unsafe_code)] // a section and names for the host; no memory is touched here
        const _: () = {
            #[cfg(not(retag_part = "map"))]
            const TEXT: &str = <#me as ::retag_sdk::Rule>::MANIFEST;
            #[cfg(not(retag_part = "map"))]
            #[unsafe(link_section = "retag_1")]
            static MANIFEST: [u8; TEXT.len()] = ::retag_sdk::manifest::bytes(TEXT);
            #[unsafe(no_mangle)]
            extern "C" fn reserve(bytes: usize) -> *mut u8 { ::retag_sdk::guest::reserve(bytes) }
            #[cfg(not(retag_part = "label"))]
            #[unsafe(no_mangle)]
            extern "C" fn map(_: *const u8, len: usize) -> i64 { ::retag_sdk::guest::map::<#me>(len) }
            #[cfg(not(retag_part = "map"))]
            #[unsafe(no_mangle)]
            extern "C" fn label(_: *const u8, len: usize) -> i64 { ::retag_sdk::guest::label::<#me>(len) }
        };
    }
}
