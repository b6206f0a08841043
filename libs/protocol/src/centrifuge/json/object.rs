//! A JSON object, written field by field straight into the frame. Payloads are embedded as they are: they were
//! checked where they entered, and parsing them again to write them would cost more than all the rest.

use std::io::Write;

/// An object that is being written. Fields appear in the order they are added.
pub(in crate::centrifuge) struct Object<'w, W: Write> {
    out: &'w mut W,
    empty: bool,
}

// Writing to a frame in memory cannot fail, so neither can these.
const IN_MEMORY: &str = "writing to memory does not fail";

impl<'w, W: Write> Object<'w, W> {
    pub(in crate::centrifuge) fn open(out: &'w mut W) -> Self {
        out.write_all(b"{").expect(IN_MEMORY);
        Self { out, empty: true }
    }

    pub(in crate::centrifuge) fn close(self) {
        self.out.write_all(b"}").expect(IN_MEMORY);
    }

    pub(in crate::centrifuge) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        serde_json::to_writer(&mut *self.out, value).expect(IN_MEMORY);
    }

    pub(in crate::centrifuge) fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        write!(self.out, "{value}").expect(IN_MEMORY);
    }

    /// `true`; a field that is false is left out.
    pub(in crate::centrifuge) fn flag(&mut self, name: &str) {
        self.raw(name, b"true");
    }

    /// JSON text as it is.
    pub(in crate::centrifuge) fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.out.write_all(json).expect(IN_MEMORY);
    }

    /// A list of objects, each filled from one item.
    pub(in crate::centrifuge) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_, W>, T),
    ) {
        self.name(name);
        self.out.write_all(b"[").expect(IN_MEMORY);
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.write_all(b",").expect(IN_MEMORY);
            }
            let mut inner = Object::open(self.out);
            fill(&mut inner, item);
            inner.close();
        }
        self.out.write_all(b"]").expect(IN_MEMORY);
    }

    pub(in crate::centrifuge) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_, W>)) {
        self.name(name);
        let mut inner = Object::open(self.out);
        fill(&mut inner);
        inner.close();
    }

    fn name(&mut self, name: &str) {
        let comma = if self.empty { "" } else { "," };
        self.empty = false;
        write!(self.out, "{comma}{}:", JsonText(name)).expect(IN_MEMORY);
    }
}

/// A field's name. Those of the protocol need no escapes, but clients' ids and tags are names too.
struct JsonText<'a>(&'a str);

impl std::fmt::Display for JsonText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| std::fmt::Error)?)
    }
}
