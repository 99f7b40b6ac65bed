//! What members of TabM do not share.

use burn::tensor::Tensor;

use crate::fused::{
    members::{HeadsOperation, ViewsOperation},
    tape::{apply, input},
};

/// Each member's view of each row: (*n*, *d*), (*m*, *d*) → (*n*, *m*, *d*), products of numbers.
pub(crate) fn views(x: Tensor<2>, views: &Tensor<2>) -> Tensor<3> {
    fused_views(&x, views).unwrap_or_else(|| composed_views(x, views))
}

pub(crate) fn fused_views(x: &Tensor<2>, views: &Tensor<2>) -> Option<Tensor<3>> {
    let ([rows, width], [members, _]) = (x.dims(), views.dims());
    apply(ViewsOperation { width }, &[input(x), input(views)].map(Some), [rows, members, width])
}

pub(crate) fn composed_views(x: Tensor<2>, views: &Tensor<2>) -> Tensor<3> {
    x.unsqueeze_dim::<3>(1) * views.clone().unsqueeze()
}

/// A linear map of its own for each member: (*n*, *m*, *d*), (*m*, *d*, *k*) → (*n*, *m*, *k*).
pub(crate) fn heads(x: Tensor<3>, heads: &Tensor<3>) -> Tensor<3> {
    fused_heads(&x, heads).unwrap_or_else(|| composed_heads(x, heads))
}

pub(crate) fn fused_heads(x: &Tensor<3>, heads: &Tensor<3>) -> Option<Tensor<3>> {
    let [rows, members, width] = x.dims();
    let scores = heads.dims()[2];
    let operation = HeadsOperation { members, width, scores };
    apply(operation, &[input(x), input(heads)].map(Some), [rows, members, scores])
}

pub(crate) fn composed_heads(x: Tensor<3>, heads: &Tensor<3>) -> Tensor<3> {
    x.swap_dims(0, 1).matmul(heads.clone()).swap_dims(0, 1)
}
