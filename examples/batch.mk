# A score for each file of predictions: make -f examples/batch.mk -C DIR
preds := $(wildcard *.preds.jsonl)

all: $(preds:.preds.jsonl=.score.json)

%.score.json: %.preds.jsonl
	kp-eval $< > $@.part || [ $$? -eq 1 ]
	mv $@.part $@
