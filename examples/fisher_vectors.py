"""
Fisher vectors in a scikit-learn pipeline
=========================================

:class:`flowpipe.FisherVector` is a scikit-learn transformer from the descriptors of clips to one
vector per clip. Here it classifies the clips of the synthetic set by their HOF descriptors.
"""

import tempfile

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

import flowpipe

# %%
# Six classes that differ in motion only, and the set's first split into training and test clips.

dataset = flowpipe.write_synthetic(tempfile.mkdtemp(), n_groups=3, clips_per_group=2, n_frames=30)
split = flowpipe.protocol(dataset, "official").splits[0]
labels = {clip.name: clip.label for clip in dataset.clips}

# %%
# One (n, 108) array of HOF descriptors per clip.

hof = {clip.name: flowpipe.dense_trajectories(clip.path, scale_num=2).hof for clip in dataset.clips}
print({name: rows.shape for name, rows in list(hof.items())[:3]})

# %%
# PCA, a mixture of 16 Gaussians, Fisher vectors and a linear SVM, fitted to training clips.

model = make_pipeline(flowpipe.FisherVector(n_components=16), LinearSVC(C=100))
model.fit([hof[name] for name in split.train], [labels[name] for name in split.train])
predicted = model.predict([hof[name] for name in split.test])
truth = [labels[name] for name in split.test]
print(f"accuracy on {len(truth)} test clips: {accuracy_score(truth, predicted):.2f}")

fig, axis = plt.subplots(figsize=(6, 5), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    truth, predicted, ax=axis, xticks_rotation="vertical", colorbar=False
)
plt.show()
