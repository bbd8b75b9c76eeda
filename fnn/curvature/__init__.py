"""Curvature from the factors of one pass: Gauss-Newton, Fisher and Kronecker factors, and their uses."""

from fnn.curvature.eigen import Eigen as Eigen
from fnn.curvature.eigen import eigen as eigen
from fnn.curvature.eigen import kronecker_multiply as kronecker_multiply
from fnn.curvature.eigen import kronecker_solve as kronecker_solve
from fnn.curvature.ekfac import ekfac as ekfac
from fnn.curvature.ggn import ggn_diagonal as ggn_diagonal
from fnn.curvature.kfac import kfac as kfac
from fnn.curvature.kfac import scale_by_kfac as scale_by_kfac
from fnn.curvature.kronecker import Curved as Curved
from fnn.curvature.kronecker import Kronecker as Kronecker
from fnn.curvature.kronecker import kronecker_factors as kronecker_factors
from fnn.curvature.products import conjugate_gradients as conjugate_gradients
from fnn.curvature.products import fisher_product as fisher_product
from fnn.curvature.products import ggn_product as ggn_product
from fnn.curvature.products import hessian_product as hessian_product
