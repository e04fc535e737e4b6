/** Made-up patients to try the page with. Measurements that are not listed were not taken. */
export const EXAMPLES = {
  low: {
    age: 44, sex: 0, cp: 3, trestbps: 118, chol: 215, fbs: 0, restecg: 0, thalach: 172, exang: 0, oldpeak: 0, slope: 1, ca: 0, thal: 3,
  },
  medium: {
    age: 58, sex: 1, cp: 3, trestbps: 138, chol: 252, fbs: 0, restecg: 2, thalach: 148, exang: 0, oldpeak: 1.2, slope: 2, ca: 0, thal: 7,
  },
  high: {
    age: 64, sex: 1, cp: 4, trestbps: 146, chol: 268, fbs: 0, restecg: 2, thalach: 116, exang: 1, oldpeak: 2.4, slope: 2, ca: 2, thal: 7,
  },
  incomplete: { age: 61, sex: 1, cp: 4, trestbps: 132, chol: 241, restecg: 0, thalach: 141, exang: 0, oldpeak: 0.8 },
};
