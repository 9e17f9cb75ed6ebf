"""Authors, titles and venues of the networks of which the table has several."""

from __future__ import annotations

TSM = "J. Lin, C. Gan, S. Han, 'TSM: Temporal Shift Module', ICCV 2019"
TRN = "B. Zhou et al., 'Temporal Relational Reasoning in Videos', ECCV 2018"
SLOWFAST_PAPER = "C. Feichtenhofer et al., 'SlowFast Networks', ICCV 2019"
NON_LOCAL = "X. Wang et al., 'Non-local Neural Networks', CVPR 2018"
ECO = "M. Zolfaghari, K. Singh, T. Brox, 'ECO', ECCV 2018"
DEEPVIDEO = "A. Karpathy et al., 'Large-scale Video Classification', CVPR 2014"
TIMESFORMER = "G. Bertasius et al., 'Is Space-Time Attention All You Need', ICML 2021"
VIVIT = "A. Arnab et al., 'ViViT: A Video Vision Transformer', ICCV 2021"
R2PLUS1D = "D. Tran et al., 'A Closer Look at Spatiotemporal Convolutions', CVPR 2018"
CLIP = "A. Radford et al., 'Learning Transferable Visual Models', ICML 2021"
VIDTR = "Y. Zhang et al., 'VidTr: Video Transformer Without Convolutions', ICCV 2021"
