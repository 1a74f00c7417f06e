"""The search for a set of prompts: a convex problem over mixtures, solved by asking what each would add.

Notation, used by every module here (k prompts, N images in all, m real images, d features):

===========  ==========================================================================  =========
symbol       meaning                                                                     shape
===========  ==========================================================================  =========
``w``        weights of the prompts: 0 or more, sum 1                                    (k,)
``K``        mean kernel value between images of two prompts, different seeds            (k, k)
``E``        inner products of the errors of the sampled embeddings                      (k, k)
``R``        mean kernel value between each prompt's images and each real image          (k, m)
``b``        mean of ``R`` over the real images                                          (k,)
``J(w)``     ``w'Kw - 2 w'b + c``: MMD^2 between the mixture and the real images          scalar
``g(x)``     ``mean_{y ~ w} k(x, y) - mean_r k(x, r)``: the witness of an image          scalar
``t``        linear terms besides the closeness, such as minus the gain                  (k,)
``f(p)``     what prompt p would add: ``-(2 mean g + t)``, more being better              (k,)
===========  ==========================================================================  =========

The gradient of J at w in direction of prompt p is ``2 mean g`` over the images of p. So the best next prompt
is the one of the lowest mean witness, and ``max_p f(p) - sum_p w_p f(p)`` (the Frank-Wolfe gap) bounds what
is left to gain (Frank and Wolfe 1956; Bach, Lacoste-Julien and Obozinski 2012; Jaggi 2013).
"""
