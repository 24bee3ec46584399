"""Every form, and shapes that divide by nothing."""

from cofit.structures import parse

TEXTS = (
    "unstructured@1 unstructured@3.7 channel@2 channel@2.6 connectivity@3.6 connectivity-filter@2 "
    "pattern4g1@2.25 pattern8g1@8.1 pattern8g4@2.25 pattern8g8@5 pattern13g1@1.8 pattern13g4@4 "
    "corner4g1@9 pattern[1b-36-d8]g1@3 block16x1@8 block32x1@2 block8x1@1 block16x4@4 "
    "corner8g1@4 corner12g4@5 "
    "block32x4@8 block1x2@2 block2x2@4 block2x4@3 block4x4@5 block1x1@2 stripe16@8 stripe8@3 "
    "nm2:4 nm1:4 nm3:7 int8 int4 block16x1@4+int8 block2x2@4+int4 unstructured@5+int4 "
    "bsp16x8@4 bsp8x4@2 bsp4x64@3 bsp7x5r1.4@2.8 bsp8x16r2@4+int4 "
    "pattern8g4@9+int8 nm2:4+int4 channel@2+int4 connectivity@3.6+pattern8g1@2.25 "
    "connectivity-filter@2+pattern4g1@2.25+int8 unify1x4@1 unify1x5u0.75@1.25 unify4x4@3 "
    "unify4x4u0.5@2 unify1x1u0.3@1.5 unify10x1u0@2 polarised8 polarised4w polarised16h "
    "polarised8+int8 polarised16w+int8 rows8@2 rows4w@3 rows8@2+int8 complementary "
    "rows8@2+polarised8 rows4w@3+polarised4w+int8"
).split()
SHAPES = [(37, 5, 3, 3), (64, 8, 3, 3), (17, 9, 1, 1), (33, 21), (10, 7, 5, 5), (24, 1, 3, 3)]

CASES = [(text, shape) for text in TEXTS for shape in SHAPES if parse(text).applies(shape) is None]
