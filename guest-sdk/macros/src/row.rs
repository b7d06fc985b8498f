//! `derive(Row)`: a struct of columns → `TableRow`, with the table's part of the manifest.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{DeriveInput, Error, Lifetime, LitStr, Result};

use crate::source::{self, Named};

struct Table {
    name: LitStr,
    key: Ident,
}

fn table(input: &DeriveInput) -> Result<Table> {
    let (mut name, mut key) = (None, None);
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("table") {
                name = Some(meta.value()?.parse::<LitStr>()?);
            } else if meta.path.is_ident("key") {
                key = Some(meta.value()?.parse::<Ident>()?);
            } else {
                return Err(meta.error("expected `table` or `key`"));
            }
            Ok(())
        })?;
    }
    let (Some(name), Some(key)) = (name, key) else {
        return Err(source::missing(input, "#[row(table = \"database.table\", key = column)] is missing"));
    };
    match name.value().split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok(Table { name, key }),
        _ => Err(Error::new(name.span(), "a table is named \"database.table\"")),
    }
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = source::fields(input)?;
    let Table { name: table, key } = table(input)?;
    let Some(key_at) = fields.iter().position(|named| *named.ident == key) else {
        let known: Vec<String> = fields.iter().map(|named| format!("`{}`", named.ident)).collect();
        let message = format!("no column `{key}` in this row; it has {}", known.join(", "));
        return Err(Error::new(key.span(), message));
    };
    let columns: Vec<Column<'_>> = fields.iter().map(Column::of).collect::<Result<_>>()?;
    let ident = &input.ident;
    let (_, arguments, _) = input.generics.split_for_impl();
    let lifetime = input.generics.lifetimes().next().map(|p| p.lifetime.clone());
    let lifetime = lifetime.unwrap_or_else(|| Lifetime::new("'row", Span::call_site()));
    let names: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let types: Vec<_> = columns.iter().map(|column| &column.field_type).collect();
    let at: Vec<usize> = (0..columns.len()).collect();
    let types: Vec<_> =
        types.iter().map(|of| quote_spanned!(of.span()=> <#of as ::retag_sdk::Column<#lifetime>>)).collect();
    let cells = columns.iter().map(|column| {
        let (ident, span) = (column.ident, column.field_type.span());
        quote_spanned!(span=> ::retag_sdk::Column::cell(&self.#ident))
    });
    let info = columns.iter().map(Column::info);
    let key_type = columns.get(key_at).map(|column| &column.static_type);
    let key_name = columns.get(key_at).map(|column| column.name.clone()).unwrap_or_default();
    let json = json(&table, &key_name, &columns);
    let key_check = quote_spanned! {key_type.span()=>
        const _: fn() = || { fn key<T: ::retag_sdk::KeyColumn>() {} key::<#key_type>(); };
    };
    let (struct_names, constants) = name_constants(input, &table, &columns);
    let used = source::used(input, &fields);
    Ok(quote! {
        impl<#lifetime> ::retag_sdk::TableRow<#lifetime> for #ident #arguments {
            const JSON: &'static str = #json;
            const TABLE: ::retag_sdk::TableInfo =
                ::retag_sdk::TableInfo { name: #table, key: #key_at, columns: &[#(#info),*] };
            const KEY: ::retag_sdk::ValueType = <#key_type as ::retag_sdk::Column<'static>>::TYPE;
            type Names = #struct_names;
            type Columns = (#(#types::Open,)*);
            fn open(batch: &::retag_sdk::Batch<#lifetime>) -> Self::Columns { (#(#types::open(batch, #at),)*) }
            #[inline]
            fn read(columns: &Self::Columns, row: usize) -> Self {
                let (#(#names,)*) = columns;
                Self { #(#names: #types::get(#names, row),)* }
            }
            #[cfg(not(target_family = "wasm"))]
            fn cells(&self) -> ::retag_sdk::alloc::vec::Vec<::retag_sdk::testing::Cell> {
                ::retag_sdk::alloc::vec![#(#cells),*]
            }
        }
        #key_check
        #constants
        #used
    })
}

/// One field of the row.
struct Column<'a> {
    ident: &'a Ident,
    name: String,
    field_type: syn::Type,
    static_type: syn::Type,
}

impl<'a> Column<'a> {
    fn of(named: &Named<'a>) -> Result<Self> {
        Ok(Self {
            ident: named.ident,
            name: source::renamed(&named.field.attrs, "column", source::plain(named.ident))?,
            field_type: named.field.ty.clone(),
            static_type: source::with_static(&named.field.ty),
        })
    }

    fn info(&self) -> TokenStream {
        let (name, of) = (&self.name, &self.static_type);
        quote_spanned! {of.span()=> ::retag_sdk::ColumnInfo {
            name: #name,
            value_type: <#of as ::retag_sdk::Column<'static>>::TYPE,
            nullable: <#of as ::retag_sdk::Column<'static>>::NULLABLE,
            absentable: <#of as ::retag_sdk::Column<'static>>::ABSENTABLE,
        }}
    }
}

fn json(table: &LitStr, key: &str, columns: &[Column<'_>]) -> TokenStream {
    let head =
        format!("{{\"table\":{},\"key\":{},\"columns\":[", source::json(&table.value()), source::json(key));
    let columns = columns.iter().enumerate().map(|(n, column)| {
        let of = &column.static_type;
        let open = format!("{}{{\"name\":{},\"is\":", source::comma(n), source::json(&column.name));
        quote_spanned! {of.span()=>
            #open,
            <#of as ::retag_sdk::Column<'static>>::TYPE.json(),
            ::retag_sdk::manifest::when(<#of as ::retag_sdk::Column<'static>>::NULLABLE, ",\"nullable\":true"),
            ::retag_sdk::manifest::when(<#of as ::retag_sdk::Column<'static>>::ABSENTABLE, ",\"absentable\":true"),
            "}"
        }
    });
    quote!(::retag_sdk::const_join!(#head, #(#columns,)* "]}"))
}

/// A struct with one constant per column, for `by = Order::mtime`.
fn name_constants(input: &DeriveInput, table: &LitStr, columns: &[Column<'_>]) -> (Ident, TokenStream) {
    let (ident, visibility) = (format_ident!("{}Columns", input.ident), &input.vis);
    let constants = columns.iter().map(|column| {
        let (field, name, of) = (column.ident, &column.name, &column.static_type);
        quote! {
            #[doc(hidden)]
            #visibility const #field: ::retag_sdk::derive::ColumnName = ::retag_sdk::derive::ColumnName {
                table: #table,
                column: #name,
                value_type: <#of as ::retag_sdk::Column<'static>>::TYPE,
            };
        }
    });
    let tokens = quote! {
        #[doc(hidden)]
        #visibility struct #ident;
        #[allow(non_upper_case_globals, dead_code)]
        impl #ident { #(#constants)* }
    };
    (ident, tokens)
}
