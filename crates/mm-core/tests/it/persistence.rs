//! Envelopes and catalogs against files that are wrong.

use mm_core::{
    BodyReader, BodyWriter, Catalog, Envelope, Error, FitContext, Frame, Learner, Matrix, Model,
    Persist, Result, Signature, Tag, conformance,
};
use proptest::prelude::*;

use crate::probe::{Fault, catalog, stump};

/// A model that holds another, to any depth.
#[derive(Debug)]
struct Shell(Box<dyn Model>);

impl Model for Shell {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.0.infer(x, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for Shell {
    const TAG: Tag = Tag::new("test.shell", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.model(&*self.0)
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        Ok(Self(body.model()?))
    }
}

/// What no reader should take: a stump of a newer version, or a shell with bytes after its model.
#[derive(Debug)]
struct Odd<const NEWER: bool>(Box<dyn Model>);

impl<const NEWER: bool> Model for Odd<NEWER> {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.0.infer(x, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl<const NEWER: bool> Persist for Odd<NEWER> {
    const TAG: Tag = if NEWER { Tag::new("test.stump", 2) } else { Tag::new("test.shell", 1) };

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.model(&*self.0)?;
        body.bytes(b"more");
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        Ok(Self(body.model()?))
    }
}

fn fitted() -> Box<dyn Model> {
    let data = conformance::sample(20, 2, conformance::Checks::default());
    Box::new(stump(Fault::None).fit(&data, &FitContext::seeded(1)).expect("fits"))
}

#[test]
fn nesting_has_a_limit() {
    let catalog = catalog().with::<Shell>();
    let mut model = fitted();
    for depth in 1..=17 {
        model = Box::new(Shell(model));
        let bytes = model.to_envelope().expect("seals").into_bytes();
        let opened = catalog.open(&bytes);
        assert_eq!(opened.is_ok(), depth <= 16, "nested {depth} deep");
    }
}

#[test]
fn a_tag_without_a_loader_and_a_newer_body_are_refused_by_name() {
    let bytes = fitted().to_envelope().expect("seals").into_bytes();
    let err = Catalog::default().open(&bytes).expect_err("nothing is registered");
    assert!(matches!(&err, Error::UnknownTag(tag) if tag == "test.stump"), "{err}");

    let bytes = Odd::<true>(fitted()).to_envelope().expect("seals").into_bytes();
    let err = catalog().open(&bytes).expect_err("newer");
    assert_eq!(err.to_string(), "`test.stump` has version 2; this build reads up to 1");
}

#[test]
fn a_body_that_says_more_than_its_reader_takes_is_refused() {
    let bytes = Odd::<false>(fitted()).to_envelope().expect("seals").into_bytes();
    let err = catalog().with::<Shell>().open(&bytes).expect_err("padded");
    assert_eq!(err.to_string(), "model body is damaged: expected its end, got 12 more bytes");
}

#[test]
fn an_opened_model_can_be_had_by_its_type() {
    let catalog = catalog();
    let bytes = fitted().to_envelope().expect("seals").into_bytes();
    let opened = catalog.open(&bytes).expect("opens");
    assert!(opened.downcast_ref::<crate::probe::StumpModel>().is_some());
    assert!(opened.downcast_ref::<Shell>().is_none());
    let boxed: &dyn Model = &opened; // A box of a box.
    assert!(boxed.downcast_ref::<crate::probe::StumpModel>().is_some());
}

proptest! {
    /// Whatever the bytes, opening them is an error and never a panic.
    #[test]
    fn hostile_bytes_are_an_error(
        head in prop::sample::select(vec![&b""[..], b"mm-model", b"mm-model\x01\x00\x01\x00"]),
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(catalog().open(&[head, &tail].concat()).is_err());
    }
}
